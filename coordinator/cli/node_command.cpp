// Nodes over REST, printed as a table or as JSON.
#include "coordinator/cli/node_command.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Colour ColourOf(const std::string& state) {
  return state == "READY" ? Colour::kGreen : state == "LOST" ? Colour::kRed : Colour::kYellow;
}

void PrintNode(const CliContext& context, const Json& node, size_t name_width) {
  const std::string state = node.value("state", "");
  const std::string padded = fmt::format("{:<{}}", node.value("name", ""), name_width);
  std::string jobs;
  for (const auto& job : node.value("jobs", Json::array())) jobs += (jobs.empty() ? "" : ", ") + job.get<std::string>();
  fmt::print("{}  {}  {:>5} of {:<5}  {}\n", context.out.Paint(Colour::kBold, padded),
             context.out.Paint(ColourOf(state), fmt::format("{:<8}", state)), node.value("used_cores", 0), node.value("cores", 0),
             jobs.empty() ? node.value("message", "") : jobs);
}

Status Add(const CliContext& context, const std::string& name, int cores) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  Json body{{"name", name}};
  if (cores > 0) body["cores"] = cores;
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
  CLI::App* add = AddPart(*node, context, "add", "Add a host, or change how many of its cores are used",
                          "Examples:\n  plateau node add n1\n  plateau node add n2 --cores 16\n  plateau node add localhost");
  add->add_option("name", *name, "Host name, as ssh takes it; localhost: the coordinator's own machine")->required();
  add->add_option("--cores", *cores, "Cores offered to jobs (default: as many as the host has)")->check(CLI::PositiveNumber);
  add->callback([&context, name, cores] { ReportStatus(context, Add(context, *name, *cores)); });
  CLI::App* list = AddPart(*node, context, "list", "List the hosts: state, cores, jobs", "Examples:\n  plateau node list\n  plateau node list --json");
  list->callback([&context] { ReportStatus(context, List(context)); });
  CLI::App* remove = AddPart(*node, context, "remove", "Take a host out; what runs on it runs on", "Examples:\n  plateau node remove n2");
  remove->add_option("name", *name, "Host name")->required();
  remove->callback([&context, name] { ReportStatus(context, Remove(context, *name)); });
}

}  // namespace plateau
