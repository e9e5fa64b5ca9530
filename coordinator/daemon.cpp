// Building the coordinator's parts in order, and taking them down in reverse.
#include "coordinator/daemon.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <future>
#include <sched.h>
#include <set>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "coordinator/http/api.h"
#include "coordinator/http/http_server.h"
#include "coordinator/launch/local_launcher.h"
#include "coordinator/link/request_server.h"

namespace plateau {
namespace {

// Held as long as the coordinator lives; its text is the pid.
class StateLock {
 public:
  static Result<std::unique_ptr<StateLock>> Take(const std::string& folder) {
    const std::string path = folder + "/LOCK";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return Fail(ErrorCode::kIo, "{}: cannot open: {}", path, std::strerror(errno));
    auto lock = std::unique_ptr<StateLock>(new StateLock(fd));
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      char holder[32] = {};
      [[maybe_unused]] const auto got = ::pread(fd, holder, sizeof holder - 1, 0);
      return Fail(ErrorCode::kConflict,
                  "state folder {} is in use by the coordinator with pid {}; stop it, or give this one another --state", folder,
                  std::atoi(holder));
    }
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0)
      return Fail(ErrorCode::kIo, "{}: cannot write: {}", path, std::strerror(errno));
    return lock;
  }
  ~StateLock() { ::close(fd_); }

 private:
  explicit StateLock(int fd) : fd_(fd) {}
  int fd_;
};

// What those must know who join by themselves: workers of ingests, a user's own mpirun. Made at the first start, for its owner's eyes
// only.
Result<std::string> JoinToken(FileSystem& files, const std::string& path) {
  if (!files.Exists(path)) {
    const mode_t before = ::umask(0077);
    const auto written = WriteFileAtomic(files, path, NewToken() + "\n");
    ::umask(before);
    PLATEAU_TRY(written);
  }
  PLATEAU_ASSIGN(std::string token, files.Read(path));
  while (!token.empty() && token.back() <= ' ') token.pop_back();
  if (token.size() < 32)
    return Fail(ErrorCode::kCorrupt, "{}: holds no join token; remove it, and a new one is made at the next start", path);
  return token;
}

// For port 0: the address with the port of the last start, so that workers that are still running find the coordinator there.
std::string WithLastPort(FileSystem& files, const std::string& state_folder, const char* which, const std::string& address) {
  if (!address.ends_with(":0")) return address;
  const auto text = files.Read(state_folder + "/endpoints.json");
  if (!text) return address;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains(which) || !json.at(which).is_string()) return address;
  const std::string last = json.at(which);
  return address.substr(0, address.size() - 1) + last.substr(last.rfind(':') + 1);
}

std::string HostName() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// What people may call this machine in a list of nodes.
std::vector<std::string> LocalNames() {
  const std::string name = HostName();
  return {kLocalNode, "127.0.0.1", name, name.substr(0, name.find('.'))};
}

// This machine's GPUs. Its worker program is asked before the first launch, for at most the time of a probe.
Result<ProbeAnswer> AskOwnGpus(const DaemonOptions& options) {
  PLATEAU_TRY(CheckGpuOffer(options.gpus, "--gpus"));
  std::promise<ProbeAnswer> promise;
  AgentProber prober({.worker = options.worker, .timeout_ms = options.probe_timeout_ms},
                     [&promise](const ProbeAnswer& answer) { promise.set_value(answer); });
  prober.Probe(kLocalNode);
  ProbeAnswer answer = promise.get_future().get();
  const std::vector<Gpu> told = answer.gpus ? answer.gpus->gpus : std::vector<Gpu>();
  for (const Gpu& gpu : OfferedGpus(options.gpus, told))
    if (std::ranges::find(told, gpu.id, &Gpu::id) == told.end())
      LogWarning(
          "--gpus {} claims GPU {}, which this machine does not tell of: a job is sent to it all the same; when it does not answer "
          "it "
          "is not offered any more, and jobs that need it are HELD",
          options.gpus, gpu.id);
  return answer;
}

// Where the ZeroMQ door is when nobody said it: beside HTTP, and free where that one is.
std::string ZmqBeside(const std::string& http) {
  const std::string host = http.substr(0, http.rfind(':'));
  return host + (http.ends_with(":0") ? ":0" : ":7082");
}

// Starts something that listens: first where it listened last, then on any free port.
template <typename Listen>
auto ListenAgain(const std::string& preferred, const std::string& address, Listen listen) {
  auto listening = listen(preferred);
  if (!listening && preferred != address && listening.error().code == ErrorCode::kConflict) return listen(address);
  return listening;
}

}  // namespace

// Taken down so that nobody calls what is gone: the loop's thread first, then the doors, then what the loop acts through.
struct Daemon::Parts {
  PosixFileSystem files;
  SystemClock clock;
  std::unique_ptr<StateLock> lock;
  std::unique_ptr<Store> store;
  std::unique_ptr<ControlLoop> loop;
  std::unique_ptr<LinkServer> link;
  std::unique_ptr<LocalLauncher> launcher;
  std::unique_ptr<AgentProber> prober;
  std::unique_ptr<CheckpointDesk> desk;
  std::unique_ptr<IngestLoop> ingests;
  std::unique_ptr<Api> api;
  std::thread loop_thread;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<RequestServer> requests;

  Status MakeIngests(const DaemonOptions& options);
  Status OpenDoors(const DaemonOptions& options, std::span<const WebAsset> assets);
  Status WriteEndpoints(const std::string& state_folder);
  ~Parts() {
    if (loop_thread.joinable()) {
      loop->Stop();
      loop_thread.join();
    }
    if (ingests != nullptr) ingests->Stop();
    requests.reset();
    http.reset();
    link.reset();
    launcher.reset();
    prober.reset();
    ingests.reset();
    desk.reset();
  }
};

Status Daemon::Parts::MakeIngests(const DaemonOptions& options) {
  IngestLoopOptions ingest{.state_folder = options.state_folder, .worker = options.worker, .limits = options.ingest_limits};
  ingest.kill_grace_ms = options.kill_grace_ms;
  PLATEAU_ASSIGN(ingest.token, JoinToken(files, options.state_folder + "/join-token"));
  ingests = std::make_unique<IngestLoop>(std::move(ingest), *store, files, clock);
  return {};
}

// REST and ZeroMQ; they serve once http->Run is called.
Status Daemon::Parts::OpenDoors(const DaemonOptions& options, std::span<const WebAsset> assets) {
  api = std::make_unique<Api>(*loop, ingests.get(), files, assets);
  const auto listen_http = [&](const std::string& address) {
    return HttpServer::Listen(
        HttpServerOptions{.address = address, .allowed_origins = options.allowed_origins},
        [api = api.get()](ApiRequest request, ApiRespond respond) { api->Handle(std::move(request), std::move(respond)); });
  };
  PLATEAU_ASSIGN(http, ListenAgain(WithLastPort(files, options.state_folder, "http", options.http), options.http, listen_http));
  api->Attach(http->io());
  // One thread runs the API, whichever door a request came in by.
  const auto listen_zmq = [&](const std::string& address) {
    return RequestServer::Start(RequestServerOptions{.address = address},
                                [api = api.get(), &io = http->io()](ApiRequest request, ApiRespond respond) {
                                  io.Post([api, request = std::move(request), respond = std::move(respond)]() mutable {
                                    api->Handle(std::move(request), std::move(respond));
                                  });
                                });
  };
  const std::string zmq = options.zmq.empty() ? ZmqBeside(options.http) : options.zmq;
  PLATEAU_ASSIGN(requests, ListenAgain(WithLastPort(files, options.state_folder, "zmq", zmq), zmq, listen_zmq));
  return {};
}

// For clients on this machine, and for the next start (WithLastPort).
Status Daemon::Parts::WriteEndpoints(const std::string& state_folder) {
  const nlohmann::ordered_json endpoints{
      {"http", http->endpoint()}, {"link", link->endpoint()}, {"zmq", requests->endpoint()}, {"pid", ::getpid()}};
  return WriteFileAtomic(files, state_folder + "/endpoints.json", endpoints.dump(1) + "\n");
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Daemon::~Daemon() = default;
const std::string& Daemon::http_endpoint() const { return parts_->http->endpoint(); }
const std::string& Daemon::link_endpoint() const { return parts_->link->endpoint(); }
const std::string& Daemon::zmq_endpoint() const { return parts_->requests->endpoint(); }
Service& Daemon::service() { return *parts_->loop; }
DatasetService& Daemon::datasets() { return *parts_->ingests; }

Result<std::unique_ptr<Daemon>> Daemon::Start(const DaemonOptions& options, std::span<const WebAsset> assets) {
  auto parts = std::make_unique<Parts>();
  auto& files = parts->files;
  const std::string& state = options.state_folder;
  for (const std::string folder : {"/jobs", "/datasets", "/db"}) {
    PLATEAU_TRY(files.MakeDirectories(state + folder));
    ::chmod((state + folder).c_str(), 0700);  // they hold tokens
  }
  PLATEAU_ASSIGN(parts->lock, StateLock::Take(state));
  PLATEAU_ASSIGN(parts->store, Store::Open(state + "/db"));

  ControlLoopOptions loop_options;
  loop_options.state_folder = state;
  loop_options.worker = options.worker;
  loop_options.mpirun = options.mpirun;
  loop_options.machine_cores = MachineCores();
  const int cores = options.cores > 0 ? options.cores : loop_options.machine_cores;
  PLATEAU_ASSIGN(ProbeAnswer own, AskOwnGpus(options));
  loop_options.cluster = {{NodeView{.cores = cores}}, options.allow_oversubscribe};
  loop_options.registry = {
      .local_names = LocalNames(), .local_cores = cores, .local_answer = std::move(own), .local_offer = options.gpus};
  if (!options.hostfile.empty()) {
    PLATEAU_ASSIGN(const std::string text, files.Read(options.hostfile));
    PLATEAU_ASSIGN(loop_options.hostfile, ParseHostfile(text, options.hostfile));
  }
  loop_options.rsh_agent = AgentCommand(options.rsh_agent);
  loop_options.as_root = ::geteuid() == 0;
  loop_options.scratch_base = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  loop_options.limits = options.limits;
  loop_options.kill_grace_ms = options.kill_grace_ms;
  PLATEAU_ASSIGN(loop_options.join_token, JoinToken(files, state + "/join-token"));
  parts->loop = std::make_unique<ControlLoop>(loop_options, *parts->store, files, parts->clock);
  ControlLoop& loop = *parts->loop;
  PLATEAU_TRY(parts->MakeIngests(options));
  IngestLoop& ingests = *parts->ingests;

  const auto start_link = [&](const std::string& address) {
    return LinkServer::Start(
        LinkServerOptions{.address = address}, parts->clock, [&loop](LinkMessage message) { return loop.Post(std::move(message)); },
        [&ingests](IngestLinkMessage message) { return ingests.Post(std::move(message)); });
  };
  PLATEAU_ASSIGN(parts->link, ListenAgain(WithLastPort(files, state, "link", options.link), options.link, start_link));
  parts->launcher = std::make_unique<LocalLauncher>(LocalLauncherOptions{.supervisor_program = options.program}, files,
                                                    parts->clock, [&loop, &ingests](const ExitNotice& notice) {
                                                      if (!ingests.Post(notice)) loop.Post(notice);
                                                    });
  parts->prober = std::make_unique<AgentProber>(
      AgentProberOptions{
          .agent = AgentCommand(options.rsh_agent), .worker = options.worker, .timeout_ms = options.probe_timeout_ms},
      [&loop](const ProbeAnswer& answer) { loop.Post(answer); });
  parts->desk = std::make_unique<CheckpointDesk>(
      files, [&loop](const std::string& job, JobEvent event) { loop.Post(job, std::move(event)); });
  PLATEAU_TRY(parts->OpenDoors(options, assets));
  PLATEAU_TRY(loop.Recover({parts->launcher.get(), parts->link.get(), parts->desk.get(), parts->prober.get()},
                           parts->link->endpoint(), RemoteLink(parts->link->endpoint(), options.link_advertise, HostName())));
  PLATEAU_TRY(ingests.Recover({parts->launcher.get(), parts->link.get()}, parts->link->endpoint()));

  PLATEAU_TRY(parts->WriteEndpoints(state));
  parts->loop_thread = std::thread([&loop] { loop.Run(); });
  ingests.Start();
  parts->http->Run();
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

std::string RemoteLink(const std::string& endpoint, const std::string& advertise, const std::string& host_name) {
  const std::string prefix = "tcp://";
  const std::string address = endpoint.substr(prefix.size());
  const std::string host = address.substr(0, address.rfind(':')), port = address.substr(address.rfind(':') + 1);
  if (advertise.find(':') != std::string::npos) return prefix + advertise;
  if (!advertise.empty()) return prefix + advertise + ":" + port;
  if (host.starts_with("127.") || host == "localhost" || host == "[::1]") return {};
  return host == "0.0.0.0" || host == "[::]" ? prefix + host_name + ":" + port : endpoint;
}

int MachineCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  PosixFileSystem files;
  std::set<std::string> cores;  // threads of one core name the same siblings
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    auto siblings = files.Read(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    cores.insert(siblings ? *siblings : fmt::format("cpu {}", cpu));
  }
  return std::max(1, static_cast<int>(cores.size()));
}

}  // namespace plateau
