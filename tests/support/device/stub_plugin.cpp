// A shared object with the table of the CUDA backend and nothing behind it: two devices whose self-test never ends, and an engine
// whose plans fail as a device does. STUB_ABI is the interface's number that it claims.
#include <future>

#include "worker/backend/cuda/plugin.h"

namespace {

using namespace plateau;

class StubEngine final : public Engine {
 public:
  explicit StubEngine(Network network, const EngineOptions& options) : network_(std::move(network)), device_(options.device) {}
  const Network& network() const override { return network_; }
  ParameterStore& parameters() override { throw Failure(ErrorCode::kInternal, "the stub has no parameters"); }
  Result<Plan*> Compile(const PlanOptions&) override { throw Failure(ErrorCode::kUnavailable, "the stub's device fell over"); }
  std::string description() const override { return fmt::format("stub {}", device_); }

 private:
  Network network_;
  int device_;
};

std::vector<cuda::PluginDevice> Devices(std::string&, std::string& versions) {
  versions = "stub 1";
  return {{"Stub A", 1 << 30, 80}, {"Stub B", 1 << 30, 90}};
}

Result<std::unique_ptr<Engine>> Create(Network network, const EngineOptions& options) {
  if (network.layers.empty()) throw Failure(ErrorCode::kUnavailable, "the stub's memory is full");
  return std::make_unique<StubEngine>(std::move(network), options);
}

Result<std::vector<std::string>> Hang(int) {
  std::promise<std::vector<std::string>> never;
  return never.get_future().get();
}

const cuda::PluginTable kTable{.abi = STUB_ABI, .devices = Devices, .create_engine = Create, .self_test = Hang};

}  // namespace

extern "C" const plateau::cuda::PluginTable* PlateauCudaPlugin() { return &kTable; }
