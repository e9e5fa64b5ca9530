// Where the fields of a specification were given: in its file, or on the command line, which an error should blame instead.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"

namespace plateau {

struct SpecSource {
  std::string path;                                           // of the file
  std::vector<std::pair<std::string, std::string>> settings;  // --set field=value, in the order given
};

// The error with, at the front of its message, the place where the field it begins with was given: "--set resources.device=gpu:
// ..." where the last --set says so, else "job.yaml: resources.device: ...". `where` is the place that the parser was told, which
// stands at the front of its messages and is taken away. A message that begins with no field stays as it is; one of another rank
// ("rank 2: ...") keeps its rank at the front.
Error Located(Error error, const SpecSource& source, const std::string& where);

}  // namespace plateau
