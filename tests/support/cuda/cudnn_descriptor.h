// Descriptors of the emulated cuDNN: attributes by name, checked against a table when they are set, and what they mean once finalized.
#pragma once

#include <cudnn.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace plateau::emulated {

// Leaves a C function as its status; the text is what cudnnGetLastErrorString answers.
struct CudnnError {
  cudnnStatus_t status;
  std::string text;
};
[[noreturn]] void Refuse(cudnnStatus_t status, std::string text);
inline void Require(bool holds, cudnnStatus_t status, const std::string& text) {
  if (!holds) Refuse(status, text);
}

struct CudnnDescriptor;
using DescriptorPtr = std::shared_ptr<CudnnDescriptor>;

struct CudnnValue {
  cudnnBackendAttributeType_t type = CUDNN_TYPE_INT64;
  int64_t count = 0;
  std::vector<char> bytes;
  std::vector<DescriptorPtr> children;  // of CUDNN_TYPE_BACKEND_DESCRIPTOR, which outlive their own handles here
};

struct CudnnGraph;  // cudnn_graph.h
struct CudnnPlan;

struct CudnnDescriptor {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, CudnnValue> values;
  std::shared_ptr<const CudnnGraph> graph;  // of an operation graph, and of what was made from it
  std::shared_ptr<const CudnnPlan> plan;

  bool Has(cudnnBackendAttributeName_t name) const { return values.count(name) != 0; }
  int64_t Int(cudnnBackendAttributeName_t name, int64_t otherwise = 0) const;  // integers, enumerations, booleans
  std::vector<int64_t> Ints(cudnnBackendAttributeName_t name) const;
  double Real(cudnnBackendAttributeName_t name, double otherwise) const;
  void* Pointer(cudnnBackendAttributeName_t name) const;
  DescriptorPtr Child(cudnnBackendAttributeName_t name) const;  // null when there is none
  const std::vector<DescriptorPtr>& Children(cudnnBackendAttributeName_t name) const;

  // What finalizing computes.
  void PutInts(cudnnBackendAttributeName_t name, const std::vector<int64_t>& numbers);
  void PutEnums(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<int>& numbers);
  void PutChildren(cudnnBackendAttributeName_t name, std::vector<DescriptorPtr> children);
};

// What a cudnnBackendDescriptor_t points to.
struct CudnnHandle {
  DescriptorPtr body;
};

// One attribute of one kind of descriptor.
struct CudnnRule {
  cudnnBackendDescriptorType_t of;
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  int64_t most;    // elements
  bool mandatory;  // before finalizing
  bool settable = true;
};
bool KnownKind(cudnnBackendDescriptorType_t type);
// Null when descriptors of this kind have no such attribute.
const CudnnRule* FindRule(cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t name);
void CheckAttributes(const CudnnDescriptor& descriptor);  // all that must be there, children finalized
size_t ElementBytes(cudnnBackendAttributeType_t type);

// Checks what the descriptor holds and computes what it answers from now on.
void FinalizeDescriptor(CudnnDescriptor& descriptor);  // cudnn_graph.cpp

}  // namespace plateau::emulated
