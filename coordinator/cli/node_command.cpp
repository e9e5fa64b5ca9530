// Nodes over REST, printed as a table or as JSON.
#include "coordinator/cli/node_command.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/gpus.h"
#include "common/text.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Colour ColourOf(const std::string& state) {
  return state == "READY" ? Colour::kGreen : state == "LOST" ? Colour::kRed : Colour::kYellow;
}

// "GPUs 1 of 2 in use: 0 NVIDIA H200 139.8 GiB (vgg-d-1), 1 NVIDIA H200 139.8 GiB"; "GPUs none: no CUDA driver"
std::string GpusText(const Json& node) {
  const Json gpus = node.value("gpus", Json::array());
  if (gpus.empty()) return "GPUs none: " + node.value("no_gpus_why", "");
  std::vector<std::string> each;
  for (const auto& gpu : gpus) {
    std::string text = gpu.value("id", "");
    if (const std::string name = gpu.value("name", ""); !name.empty()) text += " " + name;
    if (const auto bytes = gpu.value("memory_bytes", uint64_t{0}); bytes > 0) text += " " + HumanBytes(bytes);
    if (gpu.contains("job") && gpu["job"].is_string()) text += fmt::format(" ({})", gpu["job"].get<std::string>());
    each.push_back(std::move(text));
  }
  return fmt::format("GPUs {} of {} in use: {}", node.value("used_gpus", 0), gpus.size(), JoinNames(each));
}

void PrintNode(const CliContext& context, const Json& node, size_t name_width) {
  const std::string state = node.value("state", "");
  const std::string padded = fmt::format("{:<{}}", node.value("name", ""), name_width);
  std::string jobs;
  for (const auto& job : node.value("jobs", Json::array())) jobs += (jobs.empty() ? "" : ", ") + job.get<std::string>();
  fmt::print("{}  {}  {:>5} of {:<5}  {}\n", context.out.Paint(Colour::kBold, padded),
             context.out.Paint(ColourOf(state), fmt::format("{:<8}", state)), node.value("used_cores", 0), node.value("cores", 0),
             jobs.empty() ? node.value("message", "") : jobs);
  if (!node.contains("gpus")) return;
  fmt::print("  {}\n", context.out.Paint(Colour::kDim, GpusText(node)));
  const std::string note = node.value("gpus_note", "");
  if (!note.empty() && !node["gpus"].empty()) fmt::print("  {}\n", context.out.Paint(Colour::kYellow, note));
}

// As the API takes an offer: a number, or a list of ids.
Result<Json> GpusBody(const std::string& offer) {
  PLATEAU_TRY(CheckGpuOffer(offer, "--gpus"));
  if (offer.find_first_not_of("0123456789") == std::string::npos) return Json(std::stoi(offer));
  Json ids = Json::array();
  for (const Gpu& gpu : OfferedGpus(offer, {})) ids.push_back(gpu.id);
  return ids;
}

Status Add(const CliContext& context, const std::string& name, int cores, const std::string& gpus) {
  Json body{{"name", name}};
  if (cores > 0) body["cores"] = cores;
  if (!gpus.empty()) {
    PLATEAU_ASSIGN(body["gpus"], GpusBody(gpus));
  }
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const Json node, client.Post("/v1/nodes", body.dump(), {{"Content-Type", "application/json"}}));
  if (context.json) {
    context.PrintJson(node);
    return {};
  }
  fmt::print("node {} is {}: {}\n", node.value("name", ""), node.value("state", ""), node.value("message", ""));
  return {};
}

Status List(const CliContext& context) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/nodes"));
  if (context.json) {
    context.PrintJson(list);
    return {};
  }
  const Json nodes = list.value("nodes", Json::array());
  size_t width = 4;
  for (const auto& node : nodes) width = std::max(width, node.value("name", "").size());
  fmt::print("{:<{}}  {:<8}  {:^14}  {}\n", "NODE", width, "STATE", "CORES IN USE", "JOBS, OR WHY");
  for (const auto& node : nodes) PrintNode(context, node, width);
  return {};
}

Status Remove(const CliContext& context, const std::string& name) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const Json node, client.Delete("/v1/nodes/" + EscapeUrl(name)));
  if (context.json) {
    context.PrintJson(node);
    return {};
  }
  const size_t jobs = node.value("jobs", Json::array()).size();
  fmt::print("node {} is removed{}\n", node.value("name", ""),
             jobs == 0 ? "" : fmt::format("; {} job(s) run on there to the end of their attempt", jobs));
  return {};
}

CLI::App* AddPart(CLI::App& node, CliContext& context, const char* name, const char* help, const char* examples) {
  CLI::App* part = node.add_subcommand(name, help);
  AddJsonFlag(*part, context);
  AddConnectionOptions(*part, context);
  part->footer(examples);
  return part;
}

void ReportStatus(CliContext& context, const Status& status) {
  if (!status) context.Report(status.error());
}

}  // namespace

void AddNodeCommand(CLI::App& app, CliContext& context) {
  CLI::App* node = app.add_subcommand("node", "The hosts that jobs are started on");
  node->require_subcommand(1);
  node->footer("Without any node, jobs run on the coordinator's own machine. See \"On a cluster\" in the README.");
  auto name = std::make_shared<std::string>();
  auto cores = std::make_shared<int>(0);
  auto gpus = std::make_shared<std::string>();
  CLI::App* add = AddPart(*node, context, "add", "Add a host, or change which of its cores and GPUs are used",
                          "Examples:\n  plateau node add n1\n  plateau node add n2 --cores 16\n  plateau node add n3 --gpus 0,3\n"
                          "  plateau node add localhost\n"
                          "What is left out is all that the host has, also for one that was added before.");
  add->add_option("name", *name, "Host name, as ssh takes it; localhost: the coordinator's own machine")->required();
  add->add_option("--cores", *cores, "Cores offered to jobs (default: as many as the host has)")->check(CLI::PositiveNumber);
  add->add_option("--gpus", *gpus,
                  "GPUs offered to jobs: how many (2), which (0,3), one (3,) or none (0) (default: all that the host has)");
  add->callback([&context, name, cores, gpus] { ReportStatus(context, Add(context, *name, *cores, *gpus)); });
  CLI::App* list = AddPart(*node, context, "list", "List the hosts: state, cores, jobs, GPUs",
                           "Examples:\n  plateau node list\n  plateau node list --json");
  list->callback([&context] { ReportStatus(context, List(context)); });
  CLI::App* remove = AddPart(*node, context, "remove", "Take a host out; what runs on it runs on", "Examples:\n  plateau node remove n2");
  remove->add_option("name", *name, "Host name")->required();
  remove->callback([&context, name] { ReportStatus(context, Remove(context, *name)); });
}

}  // namespace plateau
