# Compiler settings and the function that makes one library of a folder.
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers
                    $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)  # GCC 12 reports std::string operations falsely
if(PLATEAU_WARNINGS_AS_ERRORS)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(PLATEAU_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${PLATEAU_SANITIZE}> $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
                      $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)  # GCC reports it falsely under sanitizers
  add_link_options(-fsanitize=${PLATEAU_SANITIZE})
  string(REPLACE "," ";" PLATEAU_SANITIZERS "${PLATEAU_SANITIZE}")
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
include_directories(${CMAKE_SOURCE_DIR})

# Read once, instead of by every file of a large folder: the headers that plateau_precompile() names. Off, each file shows that it
# includes all that it needs; the sanitizer presets build so.
option(PLATEAU_PRECOMPILE "Precompile the largest headers" ON)
find_program(PLATEAU_CCACHE ccache)
if(PLATEAU_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PLATEAU_CCACHE})
  if(PLATEAU_PRECOMPILE)
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${PLATEAU_CCACHE})
  endif()
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${PLATEAU_CCACHE})
endif()
find_program(PLATEAU_LLD ld.lld)
if(PLATEAU_LLD)
  add_link_options(-fuse-ld=lld)
endif()

# plateau_precompile(TARGET HEADER...): for the files of TARGET, which must all be compiled with the same options.
function(plateau_precompile target)
  if(PLATEAU_PRECOMPILE)
    list(TRANSFORM ARGN REPLACE "(.+)" "<\\1>")
    target_precompile_headers(${target} PRIVATE ${ARGN})
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)  # ccache asks for it
  endif()
endfunction()

# plateau_library(NAME LIBRARY...): a static library of this folder's .cpp files (main*.cpp excepted), linked with LIBRARY...
function(plateau_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main[^/]*\\.cpp$|_absent\\.cpp$")
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARGN})
    return()
  endif()
  # Files that speak JSON compute nothing, but for two: -O3 would only compile them a third longer.
  foreach(source ${sources})
    file(STRINGS ${source} json REGEX "^#include <nlohmann/json.hpp>" LIMIT_COUNT 1)
    if(json AND NOT source MATCHES "/(safetensors|warm_start)\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O1;-Wno-maybe-uninitialized>")
    endif()
  endforeach()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC ${ARGN})
endfunction()
