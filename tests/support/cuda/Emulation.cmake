# CUDA's code on the host: the same sources, compiled as plain C++ against stand-ins for the runtime, cuDNN, cuBLASLt and NCCL, so that
# their arithmetic and their order are tested where there is no device. The same tests, linked with the real libraries, carry the
# label gpu and skip where no device answers.
file(GLOB cuda_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/worker/backend/cuda/*_test.cpp)
# What only the emulation can show: planned faults, and what its engines do on purpose.
file(GLOB emulation_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/support/cuda/*_test.cpp)
set(PLATEAU_REGISTERED_TESTS ${PLATEAU_REGISTERED_TESTS} ${cuda_tests} ${emulation_tests})

# plateau_cuda_tests(PREFIX LABELS SOURCES LIBRARY...): each test of the list SOURCES as a program PREFIX_<name>. A source is compiled
# once, whatever it is linked with.
function(plateau_cuda_tests prefix labels sources)
  foreach(source ${${sources}})
    get_filename_component(stem ${source} NAME_WE)
    set(name ${prefix}_${stem})
    if(NOT TARGET cuda_object_${stem})
      add_library(cuda_object_${stem} OBJECT ${source})
      target_link_libraries(cuda_object_${stem} PUBLIC plateau_cuda_host plateau_backend_cpu GTest::gmock)
      plateau_precompiled_gtest(cuda_object_${stem} openmp_pic)
      if(stem MATCHES "trainer")
        target_link_libraries(cuda_object_${stem} PUBLIC plateau_train)
      endif()
      target_compile_definitions(cuda_object_${stem} PRIVATE PLATEAU_SOURCE_DIR="${CMAKE_SOURCE_DIR}" PLATEAU_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
    endif()
    add_executable(${name} $<TARGET_OBJECTS:cuda_object_${stem}>)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_link_libraries(${name} PRIVATE ${ARGN} plateau_backend_cpu GTest::gmock GTest::gtest_main)
    if(stem MATCHES "trainer")
      target_link_libraries(${name} PRIVATE plateau_train)  # what steps on a device are held against
    endif()
    set(filter "")
    if(NOT prefix STREQUAL gpu)
      set(filter TEST_FILTER "-DescribedDevice*")  # asks the real cuDNN, which needs no device for it
    endif()
    gtest_discover_tests(${name} TEST_PREFIX ${prefix}. ${filter} DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 300 LABELS "${labels}" ENVIRONMENT "OMP_WAIT_POLICY=passive")
  endforeach()
endfunction()

file(GLOB emulation_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/support/cuda/*.cpp)
list(FILTER emulation_sources EXCLUDE REGEX "_test\\.cpp$")
if(PLATEAU_CUDA_HEADERS AND PLATEAU_CUDNN_HEADERS AND PLATEAU_NCCL_HEADERS AND emulation_sources)
  set(cuda_folder ${CMAKE_SOURCE_DIR}/worker/backend/cuda)
  file(GLOB cuda_kernels CONFIGURE_DEPENDS ${cuda_folder}/kernels/*.cu)
  set_source_files_properties(${cuda_kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++;-O2")
  add_library(plateau_cuda_emulated STATIC $<TARGET_OBJECTS:plateau_cuda_host> ${cuda_kernels} ${emulation_sources})
  target_compile_options(plateau_cuda_emulated PRIVATE $<$<CONFIG:Release>:-O2>)
  # The stand-ins' arithmetic, whose loops want vectors.
  set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/support/cuda/cudnn_execute.cpp ${CMAKE_CURRENT_SOURCE_DIR}/support/cuda/cublaslt_execute.cpp
                              PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>")
  # First, so that launch.h is the twin in this folder.
  target_include_directories(plateau_cuda_emulated BEFORE PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/support/cuda)
  target_include_directories(plateau_cuda_emulated SYSTEM PUBLIC ${PLATEAU_CUDA_HEADERS} ${PLATEAU_CUDNN_HEADERS} ${PLATEAU_NCCL_HEADERS})
  target_link_libraries(plateau_cuda_emulated PUBLIC plateau_nn plateau_collective OpenMP::OpenMP_CXX)
  if(EXISTS ${cuda_folder}/plugin.cpp)
    # For whole programs: PLATEAU_CUDA_LIBRARY names it.
    add_library(plateau_cuda_pretended SHARED ${cuda_folder}/plugin.cpp)
    target_link_libraries(plateau_cuda_pretended PRIVATE plateau_cuda_emulated)
    set_target_properties(plateau_cuda_pretended PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  endif()
  plateau_cuda_tests(emulated "worker_backend_cuda" cuda_tests plateau_cuda_emulated)
  plateau_cuda_tests(emulation "worker_backend_cuda" emulation_tests plateau_cuda_emulated)
else()
  message(STATUS "CUDA's headers are not here: the tests of the CUDA backend are not built")
endif()
if(PLATEAU_HAVE_CUDA)
  plateau_cuda_tests(gpu "gpu" cuda_tests plateau_cuda_parts)
  add_custom_target(gpu_tests)  # deploy/bundle.sh takes them along
  foreach(source ${cuda_tests})
    get_filename_component(stem ${source} NAME_WE)
    add_dependencies(gpu_tests gpu_${stem})
  endforeach()
endif()
