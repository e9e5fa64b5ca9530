// The CUDA operators under planned faults: a driver or device that is missing, engines that fail, fusion that nobody offers, no
// memory.
#include "common/error.h"
#include "tests/support/cuda/emulation.h"
#include "tests/worker/backend/cuda/op_fixture.h"
#include "worker/backend/cuda/conv_op.h"
#include "worker/backend/cuda/fc_op.h"

namespace plateau::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class OperatorFaultTest : public OpTest {
 protected:
  void SetUp() override { emulated::Reset(); }
  void TearDown() override { emulated::Reset(); }

  template <class Call>
  static Failure FailureOf(const Call& call) {
    try {
      call();
    } catch (const Failure& failure) {
      return failure;
    }
    ADD_FAILURE() << "nothing failed";
    return Failure(ErrorCode::kInternal, "");
  }
  std::unique_ptr<ConvOp> MakeConv(Libraries& libraries) {
    return ConvOp::Create(libraries, "conv4_1", {{2, 6, 6, 8, 8}, {2, 6, 6, 16, 16}}, {.bias = true, .relu = true},
                          kAmpleWorkspace);
  }
  std::unique_ptr<FcOp> MakeFc(Libraries& libraries) {
    return FcOp::Create(libraries, "fc6", {4, 64, 16}, {.bias = true, .relu = true}, kAmpleWorkspace);
  }
  RecordedChoices choices_;
};

TEST_F(OperatorFaultTest, MissingDeviceOrDriverSaysWhatToDo) {
  const auto open = [&] { Libraries(0, Precision::kFp32, true, choices_); };
  emulated::SetDeviceCount(0);
  const Failure none = FailureOf(open);
  EXPECT_EQ(none.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(none.what(), AllOf(HasSubstr("no device"), HasSubstr("nvidia-smi"), HasSubstr("device: cpu")));
  emulated::Reset();
  emulated::FailCall("cudaGetDeviceCount", cudaErrorInsufficientDriver);
  const Failure old = FailureOf(open);
  EXPECT_EQ(old.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(old.what(), AllOf(HasSubstr("driver is missing or older than CUDA"), HasSubstr("device: cpu")));
  open();
}

TEST_F(OperatorFaultTest, LibraryThatDoesNotOpenIsNamed) {
  emulated::FailCall("cudnnCreate", CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED);
  EXPECT_THAT(FailureOf([&] { Libraries(0, Precision::kFp32, true, choices_); }).what(), HasSubstr("cuDNN: cudnnCreate: "));
  emulated::FailCall("cublasLtCreate", CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_THAT(FailureOf([&] { Libraries(0, Precision::kFp32, true, choices_); }).what(), HasSubstr("cuBLASLt: cublasLtCreate: "));
}

TEST_F(OperatorFaultTest, EngineThatFailsWhileTimedIsLeftOut) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  emulated::FailCall("cudnnBackendExecute", CUDNN_STATUS_EXECUTION_FAILED);
  EXPECT_NE(MakeConv(libraries), nullptr);
  emulated::FailCall("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_NE(MakeFc(libraries), nullptr);
}

TEST_F(OperatorFaultTest, NoEngineThatRunsNamesLayerPassAndFault) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  emulated::FailCall("cudnnBackendExecute", CUDNN_STATUS_EXECUTION_FAILED, 0, 1000);
  EXPECT_THAT(FailureOf([&] { MakeConv(libraries); }).what(),
              AllOf(HasSubstr("conv4_1: conv4_1 forward: none of "), HasSubstr("CUDNN_STATUS_EXECUTION_FAILED")));
  emulated::FailCall("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED, 0, 1000);
  EXPECT_THAT(FailureOf([&] { MakeFc(libraries); }).what(),
              AllOf(HasSubstr("fc6: fc6 forward: none of "), HasSubstr("CUBLAS_STATUS_EXECUTION_FAILED")));
  EXPECT_TRUE(choices_.texts.empty()) << "a search that failed left something on record";
}

TEST_F(OperatorFaultTest, EngineThatFailsInAStepNamesLayerAndPass) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  const auto op = MakeConv(libraries);
  const DeviceBuffer memory(1 << 20), workspace(op->workspace_bytes());
  emulated::FailCall("cudnnBackendExecute", CUDNN_STATUS_EXECUTION_FAILED);
  const Failure failure =
      FailureOf([&] { op->BackwardWeights(memory.at(0), memory.at(1 << 18), memory.as<float>(1 << 19), workspace.data()); });
  EXPECT_EQ(failure.code(), ErrorCode::kInternal);
  EXPECT_THAT(failure.what(), HasSubstr("cuDNN: conv4_1 backward weights: CUDNN_STATUS_EXECUTION_FAILED"));
}

// Images stored with 4 channels of bf16 are beyond the emulation's engines that fuse with a float bias: what is left is taken.
TEST_F(OperatorFaultTest, OwnKernelsFollowWhereNothingFuses) {
  Libraries libraries(0, Precision::kBf16, true, choices_);
  const auto op = ConvOp::Create(libraries, "conv1_1", {{2, 6, 6, 3, 4}, {2, 6, 6, 16, 16}},
                                 {.bias = false, .relu = true, .training = false}, kAmpleWorkspace);
  EXPECT_THAT(op->algorithms(), testing::ElementsAre(HasSubstr(", then ReLU")));
}

TEST_F(OperatorFaultTest, MemoryThatIsTooShortForTimingIsSaidAndTheFirstOfferTaken) {
  Libraries libraries(0, Precision::kFp32, true, choices_);
  emulated::SetMemoryBytes(1 << 10);
  testing::internal::CaptureStderr();
  const auto conv = MakeConv(libraries);
  const auto fc = MakeFc(libraries);
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      AllOf(
          HasSubstr("conv4_1 forward: not timed, the first algorithm that the heuristics name is taken: CUDA device 0: cudaMalloc"),
          HasSubstr("fc6 backward weights: not timed, ")));
  EXPECT_EQ(conv->algorithms().size(), 3u);
  EXPECT_EQ(fc->algorithms().size(), 3u);
  EXPECT_EQ(choices_.texts.size(), 6u);
}

}  // namespace
}  // namespace plateau::cuda
