# Shared objects that the tests of the device's choice open: stand-ins with the table of the CUDA backend and without devices behind.
function(plateau_stub name source)
  add_library(${name} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/support/device/${source})
  set_target_properties(${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()
plateau_stub(stub_plugin stub_plugin.cpp)
target_compile_definitions(stub_plugin PRIVATE STUB_ABI=plateau::cuda::kPluginAbi)
target_link_libraries(stub_plugin PRIVATE plateau_nn)
plateau_stub(other_plugin stub_plugin.cpp)
target_compile_definitions(other_plugin PRIVATE STUB_ABI=4711)
target_link_libraries(other_plugin PRIVATE plateau_nn)
plateau_stub(empty_plugin empty_plugin.cpp)
# With the names of the driver and of a library of cuDNN, so that the loader takes them for these.
plateau_stub(stub_driver empty_plugin.cpp)
target_link_options(stub_driver PRIVATE LINKER:-soname,libcuda.so.1)
add_library(stub_cudnn SHARED ${CMAKE_CURRENT_SOURCE_DIR}/support/device/empty_plugin.cpp)
set_target_properties(stub_cudnn PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests NO_SONAME ON)
target_link_options(stub_cudnn PRIVATE LINKER:-soname,libcudnn_stub.so.9)
plateau_stub(needy_plugin stub_plugin.cpp)
target_compile_definitions(needy_plugin PRIVATE STUB_ABI=plateau::cuda::kPluginAbi)
set_target_properties(needy_plugin PROPERTIES SKIP_BUILD_RPATH ON)
target_link_libraries(needy_plugin PRIVATE plateau_nn stub_cudnn)
target_link_options(needy_plugin PRIVATE LINKER:--no-as-needed)
# One that needs cuBLASLt, beside which nvrtc is looked for.
add_library(stub_cublaslt SHARED ${CMAKE_CURRENT_SOURCE_DIR}/support/device/empty_plugin.cpp)
set_target_properties(stub_cublaslt PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests NO_SONAME ON)
target_link_options(stub_cublaslt PRIVATE LINKER:-soname,libcublasLt.so.99)
plateau_stub(multiplying_plugin stub_plugin.cpp)
target_compile_definitions(multiplying_plugin PRIVATE STUB_ABI=plateau::cuda::kPluginAbi)
set_target_properties(multiplying_plugin PROPERTIES SKIP_BUILD_RPATH ON)
target_link_libraries(multiplying_plugin PRIVATE plateau_nn stub_cublaslt)
target_link_options(multiplying_plugin PRIVATE LINKER:--no-as-needed)

plateau_tests(worker/backend/device plateau_device)
foreach(test worker_backend_device_needed_libraries_test worker_backend_device_cuda_library_test worker_backend_device_device_test)
  set_target_properties(${test} PROPERTIES ENABLE_EXPORTS ON)  # as plateau-worker
  add_dependencies(${test} stub_plugin other_plugin empty_plugin stub_driver needy_plugin multiplying_plugin)
  target_compile_definitions(${test} PRIVATE
    PLATEAU_STUB_PLUGIN="$<TARGET_FILE:stub_plugin>" PLATEAU_OTHER_PLUGIN="$<TARGET_FILE:other_plugin>"
    PLATEAU_EMPTY_PLUGIN="$<TARGET_FILE:empty_plugin>" PLATEAU_STUB_DRIVER="$<TARGET_FILE:stub_driver>"
    PLATEAU_STUB_CUDNN="$<TARGET_FILE:stub_cudnn>" PLATEAU_NEEDY_PLUGIN="$<TARGET_FILE:needy_plugin>"
    PLATEAU_STUB_CUBLASLT="$<TARGET_FILE:stub_cublaslt>" PLATEAU_MULTIPLYING_PLUGIN="$<TARGET_FILE:multiplying_plugin>")
endforeach()
