// The error value every fallible operation returns, and the exception that ends a training step.
#pragma once

#include <stdexcept>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include <fmt/format.h>

namespace plateau {

// What kind of thing went wrong; decides exit codes and HTTP status codes.
enum class ErrorCode {
  kInvalidInput,   // the user's value, file content or field is wrong: exit 2, HTTP 422/400
  kNotFound,       // a named thing does not exist: exit 2, HTTP 404
  kConflict,       // the state does not allow it: exit 1, HTTP 409
  kUnavailable,    // a peer does not answer: exit 1, HTTP 503
  kIo,             // disk or network failed (full disk, read-only mount): exit 1, HTTP 500
  kCorrupt,        // a checksum or format check failed: exit 1, HTTP 500
  kUnsupported,    // known, but this build cannot do it: exit 2, HTTP 422
  kNumeric,        // NaN or infinity in training: exit 3
  kInternal,       // a broken promise between our own parts: exit 1, HTTP 500
};

// The message says what was wrong, where (path, offset, field, rank) and what to do next.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

// Holds a value or an Error; never ignored.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

using Status = Result<void>;

// Builds the unexpected half of any Result: `return Fail(ErrorCode::kIo, "{}: cannot open", path);`
template <typename... Args>
tl::unexpected<Error> Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}
inline tl::unexpected<Error> Fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

// Process exit code for an error: 2 usage or input, 3 numeric, 1 otherwise.
int ExitCode(ErrorCode code);
const char* ErrorCodeName(ErrorCode code);

// A device or collective fault inside a step. Thrown there, caught once in the worker's main.
class Failure : public std::runtime_error {
 public:
  Failure(ErrorCode code, std::string message) : std::runtime_error(std::move(message)), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// Evaluates a Result expression; returns its error from the enclosing function.
#define PLATEAU_CONCAT_INNER(a, b) a##b
#define PLATEAU_CONCAT(a, b) PLATEAU_CONCAT_INNER(a, b)
#define PLATEAU_TRY(expression)                                          \
  do {                                                                   \
    auto plateau_status = (expression);                                  \
    if (!plateau_status) return ::plateau::Fail(std::move(plateau_status.error())); \
  } while (false)
// Declares `variable` from a Result's value or returns its error: PLATEAU_ASSIGN(auto text, ReadFile(path));
#define PLATEAU_ASSIGN(variable, expression)                                               \
  auto PLATEAU_CONCAT(plateau_result_, __LINE__) = (expression);                           \
  if (!PLATEAU_CONCAT(plateau_result_, __LINE__))                                          \
    return ::plateau::Fail(std::move(PLATEAU_CONCAT(plateau_result_, __LINE__).error()));  \
  variable = std::move(*PLATEAU_CONCAT(plateau_result_, __LINE__))

}  // namespace plateau
