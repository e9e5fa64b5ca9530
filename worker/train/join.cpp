// Registering a run with a coordinator: one question, repeated until it is answered.
#include "worker/train/join.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <nlohmann/json.hpp>
#include <zmq.hpp>

#include "common/check.h"
#include "common/clock.h"
#include "common/job_spec.h"
#include "common/log.h"
#include "worker/train/agreement.h"

namespace plateau {
namespace {

constexpr int64_t kRepeatMs = 2000;
constexpr int64_t kSilenceMs = 8000;  // then the user is told that nobody answers
constexpr int kLingerMs = 0;

std::string HostName() {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  return host;
}

// 128 random bits: what makes a repeated registration the same one.
std::string NewKey() {
  unsigned char bytes[16];
  PLATEAU_CHECK(::getentropy(bytes, sizeof bytes) == 0, "getentropy failed");
  std::string key;
  for (const unsigned char byte : bytes) key += fmt::format("{:02x}", byte);
  return key;
}

Result<std::string> ReadToken(FileSystem& files, const std::string& path) {
  if (path.empty()) {
    const char* inherited = std::getenv(kTokenVariable);
    if (inherited != nullptr && *inherited != '\0') return std::string(inherited);
    return Fail(ErrorCode::kInvalidInput,
                "--coordinator: the coordinator's join token is missing; give --token FILE (`plateau up` prints its path), or the "
                "file's content in ${}",
                kTokenVariable);
  }
  auto text = files.Read(path);
  if (!text)
    return Fail(text.error().code, "--token: {}; `plateau up` prints where the coordinator keeps its join token",
                text.error().message);
  while (!text->empty() && static_cast<unsigned char>(text->back()) <= ' ') text->pop_back();
  if (text->empty()) return Fail(ErrorCode::kInvalidInput, "--token: {} is empty; it must hold the coordinator's join token", path);
  return text;
}

// The specification as the coordinator keeps it: with as many workers as there are ranks, and paths that hold anywhere.
Result<std::string> RegisteredSpec(const std::string& text, int ranks) {
  PLATEAU_ASSIGN(JobSpec spec, ParseJobSpecText(text, "the specification", true));
  spec.resources.workers = ranks;
  spec.resources.min_workers = std::min(spec.resources.min_workers, ranks);
  spec.output = std::filesystem::absolute(spec.output).lexically_normal().string();
  spec.data.store = std::filesystem::absolute(spec.data.store).lexically_normal().string();
  return JobSpecToJson(spec).dump();
}

// False when nothing came, also when a signal cut the wait short.
bool Polled(zmq::pollitem_t& item, int64_t wait_ms) {
  try {
    return zmq::poll(&item, 1, std::chrono::milliseconds(wait_ms)) > 0;
  } catch (const zmq::error_t& fault) {
    if (fault.num() != EINTR) throw;
    return false;
  }
}

// Asks until an answer comes.
Result<CoordinatorReply> Ask(const JoinOptions& options, const Sender& sender, const Register& message) {
  const std::string text = EncodeWorkerMessage(sender, message);
  const SystemClock clock;
  const int64_t begin_ms = clock.MonotonicMs(), deadline_ms = begin_ms + options.answer_bound_ms;
  bool told = false;
  try {
    zmq::context_t context;
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, kLingerMs);
    socket.connect(options.coordinator);
    while (clock.MonotonicMs() < deadline_ms) {
      (void)socket.send(zmq::buffer(text), zmq::send_flags::dontwait);
      if (!told && clock.MonotonicMs() - begin_ms >= kSilenceMs) {
        LogInfo(
            "no answer yet from {}; asking on for {} s. Is it the worker link (\"link\" in endpoints.json of the coordinator's "
            "state folder)?",
            options.coordinator, (deadline_ms - clock.MonotonicMs()) / 1000);
        told = true;
      }
      const int64_t again_ms = std::min(deadline_ms, clock.MonotonicMs() + kRepeatMs);
      for (int64_t now_ms = clock.MonotonicMs(); now_ms < again_ms; now_ms = clock.MonotonicMs()) {
        zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
        zmq::message_t answer;
        if (!Polled(item, again_ms - now_ms) || !socket.recv(answer)) continue;
        PLATEAU_ASSIGN(auto reply, DecodeReply(answer.to_string_view()));
        if (reply.first == sender.request || reply.first == 0) return std::move(reply.second);
      }
    }
  } catch (const zmq::error_t& fault) {
    return Fail(ErrorCode::kInvalidInput, "--coordinator {}: {}; give tcp://HOST:PORT", options.coordinator, fault.what());
  }
  return Fail(ErrorCode::kUnavailable,
              "the coordinator at {} did not answer within {} s; is it up, and is this its worker link (endpoints.json: link)?",
              options.coordinator, options.answer_bound_ms / 1000);
}

// Rank 0. The answer as JSON text, to be shared.
Result<std::string> RegisterRun(FileSystem& files, const JoinOptions& options, const std::string& spec,
                                std::vector<std::string> hosts) {
  PLATEAU_ASSIGN(const std::string token, ReadToken(files, options.token_file));
  PLATEAU_ASSIGN(std::string registered_spec, RegisteredSpec(spec, static_cast<int>(hosts.size())));
  const Sender sender{
      .job = options.job, .attempt = 0, .token = token, .rank = 0, .host = hosts[0], .pid = ::getpid(), .request = 1};
  PLATEAU_ASSIGN(const CoordinatorReply reply, Ask(options, sender, {NewKey(), std::move(registered_spec), std::move(hosts)}));
  if (const auto* refused = std::get_if<Refused>(&reply))
    return Fail(ErrorCode::kConflict, "the coordinator at {} refuses this run: {}{}", options.coordinator, refused->reason,
                options.token_file.empty() ? fmt::format(" (no --token was given: ${} was sent)", kTokenVariable) : "");
  const auto* registered = std::get_if<Registered>(&reply);
  if (registered == nullptr)
    return Fail(ErrorCode::kInternal, "the coordinator at {} answered a registration with something else", options.coordinator);
  LogInfo(
      "registered with {} as job {} attempt {}; after a failure, the same mpirun with --job {} goes on from the newest checkpoint",
      options.coordinator, registered->job, registered->attempt, registered->job);
  return nlohmann::json{{"job", registered->job}, {"attempt", registered->attempt}, {"token", registered->token}}.dump();
}

}  // namespace

Result<Registered> JoinCoordinator(FileSystem& files, Collective& collective, const JoinOptions& options,
                                   const Result<std::string>& spec) {
  const std::string own = HostName();
  std::vector<std::string> hosts;
  for (int rank = 0; rank < collective.world_size(); ++rank) hosts.push_back(collective.BroadcastText(own, rank));
  Result<std::string> answer = std::string();
  if (collective.rank() == 0) answer = spec ? RegisterRun(files, options, *spec, std::move(hosts)) : spec;
  PLATEAU_ASSIGN(const std::string text, ShareText(collective, answer));
  const auto json = nlohmann::json::parse(text);
  return Registered{json.at("job"), json.at("attempt"), json.at("token")};
}

}  // namespace plateau
