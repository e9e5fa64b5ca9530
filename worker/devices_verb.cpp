// The devices verb: asks the driver and prints what it says.
#include "worker/devices_verb.h"

#include <cstdlib>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "common/gpus.h"
#include "common/text.h"
#include "worker/backend/device/device.h"

namespace plateau {
namespace {

GpuReport AskGpus() {
  const CudaAnswer answer = AskCuda();
  const auto ids = VisibleGpuIds(answer.devices.size(), std::getenv("CUDA_VISIBLE_DEVICES"));
  GpuReport report{.gpus = {}, .reason = answer.devices.empty() ? answer.reason : ""};
  for (size_t i = 0; i < ids.size(); ++i) report.gpus.push_back({ids[i], answer.devices[i].name, answer.devices[i].memory_bytes});
  return report;
}

void Print(const GpuReport& report) {
  if (report.gpus.empty()) fmt::print("no GPU: {}\n", report.reason);
  for (const Gpu& gpu : report.gpus) fmt::print("{}  {}  {}\n", gpu.id, gpu.name, HumanBytes(gpu.memory_bytes));
}

}  // namespace

void AddDevicesVerb(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("devices", "List the GPUs of this machine, or say why there are none");
  verb->footer(
      "One line a GPU that CUDA shows this process (CUDA_VISIBLE_DEVICES is respected): id, name, memory. The coordinator asks its "
      "hosts so.\n"
      "`plateau doctor` tries them, too.\n"
      "Examples:\n"
      "  plateau-worker devices\n"
      "  ssh n1 /opt/plateau/bin/plateau-worker devices --json\n"
      "Exit code: 0, with and without GPUs.");
  verb->add_flag("--json", *json,
                 "One line of JSON: {\"plateau_gpus\":1,\"gpus\":[{\"id\",\"name\",\"memory_bytes\"}],\"reason\"}");
  verb->callback([json, &exit_code] {
    const GpuReport report = AskGpus();
    if (*json)
      fmt::print("{}\n", GpuReportLine(report));
    else
      Print(report);
    exit_code = 0;
  });
}

}  // namespace plateau
