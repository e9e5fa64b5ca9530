// Several "hosts" on one machine: network namespaces with names and addresses of their own, on a bridge in this process's own
// namespace, reached by an agent that stands for ssh. Needs root.
#pragma once

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace plateau::test {

// One thread; built before any other thread, because the process moves into a network namespace of its own. Hosts are n1, n2, ...
// at 10.77.0.1, 10.77.0.2, ...; this process is at 10.77.0.254.
class NamespaceHosts {
 public:
  static constexpr const char* kOwnAddress = "10.77.0.254";

  explicit NamespaceHosts(int count) : prefix_(fmt::format("plateau-{}-", ::getpid())) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
      trouble_ = fmt::format("network namespaces need root: {}", std::strerror(::geteuid() != 0 ? EPERM : errno));
      return;
    }
    Must("ip link set lo up");
    Must("ip link add br0 type bridge");
    Must(fmt::format("ip addr add {}/24 dev br0", kOwnAddress));
    Must("ip link set br0 up");
    for (int i = 1; i <= count && trouble_.empty(); ++i) {
      const std::string space = Space(i);
      Must("ip netns add " + space);
      if (!trouble_.empty()) return;
      count_ = i;
      Must(fmt::format("ip link add v{} type veth peer name eth0 netns {}", i, space));
      Must(fmt::format("ip link set v{} master br0 up", i));
      Must(fmt::format("ip -n {} link set lo up", space));
      Must(fmt::format("ip -n {} addr add 10.77.0.{}/24 dev eth0", space, i));
      Must(fmt::format("ip -n {} link set eth0 up", space));
    }
    WriteAgent();
  }
  ~NamespaceHosts() {
    for (int i = 1; i <= count_; ++i) {
      for (const std::string& pid : Pids(i)) Run("kill -9 " + pid);
      Run("ip netns del " + Space(i));
    }
  }
  NamespaceHosts(const NamespaceHosts&) = delete;
  NamespaceHosts& operator=(const NamespaceHosts&) = delete;

  // Why there are none; empty: they are there.
  const std::string& trouble() const { return trouble_; }
  std::string agent() const { return folder_.path() + "/agent"; }
  // An Open MPI hostfile with so many slots a host.
  std::string Hostfile(int slots) const {
    const std::string path = folder_.path() + "/hosts";
    std::ofstream file(path);
    for (int i = 1; i <= count_; ++i) file << "n" << i << " slots=" << slots << "\n";
    return path;
  }
  void Cut(int host) { Must(fmt::format("ip link set v{} down", host)); }
  void Heal(int host) { Must(fmt::format("ip link set v{} up", host)); }
  // Processes that run on the host.
  std::vector<std::string> Pids(int host) const {
    std::vector<std::string> pids;
    FILE* pipe = ::popen(("ip netns pids " + Space(host)).c_str(), "r");
    for (std::array<char, 64> line; std::fgets(line.data(), line.size(), pipe) != nullptr;)
      pids.emplace_back(line.data(), std::strcspn(line.data(), "\n"));
    ::pclose(pipe);
    return pids;
  }

 private:
  std::string Space(int host) const { return prefix_ + "n" + std::to_string(host); }
  static int Run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()); }
  void Must(const std::string& command) {
    if (trouble_.empty() && Run(command) != 0) trouble_ = command + ": not possible here";
  }

  // As ssh: it answers only while the host's network does, hands no environment on, and runs the command under the host's name.
  // Nothing listens at port 9: the refusal is the sign of life.
  void WriteAgent() const {
    std::ofstream(agent()) << "#!/bin/bash\nhost=$1; shift\n"
                           << "said=$( { timeout 2 bash -c \": < /dev/tcp/10.77.0.${host#n}/9\"; } 2>&1 )\n"
                           << "case $said in *refused*) ;; *) echo \"connect to host $host: No route to host\" >&2; exit 255;; esac\n"
                           << "exec env -i PATH=\"$PATH\" HOME=\"$HOME\" ip netns exec " << prefix_
                           << "$host unshare --uts bash -c 'hostname \"$0\"; eval \"$@\"' \"$host\" \"$*\"\n";
    ::chmod(agent().c_str(), 0755);
  }

  std::string prefix_;
  TempFolder folder_;
  int count_ = 0;
  std::string trouble_;
};

}  // namespace plateau::test
