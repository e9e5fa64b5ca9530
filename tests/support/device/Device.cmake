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
# plateau_needy_stub(PLUGIN LIBRARY SONAME): PLUGIN needs LIBRARY, which carries the name of one of CUDA's and is not found by itself.
function(plateau_needy_stub plugin library soname)
  add_library(${library} SHARED ${CMAKE_CURRENT_SOURCE_DIR}/support/device/empty_plugin.cpp)
  set_target_properties(${library} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests NO_SONAME ON)
  target_link_options(${library} PRIVATE LINKER:-soname,${soname})
  plateau_stub(${plugin} stub_plugin.cpp)
  target_compile_definitions(${plugin} PRIVATE STUB_ABI=plateau::cuda::kPluginAbi)
  set_target_properties(${plugin} PROPERTIES SKIP_BUILD_RPATH ON)
  target_link_libraries(${plugin} PRIVATE plateau_nn ${library})
  target_link_options(${plugin} PRIVATE LINKER:--no-as-needed)
endfunction()
plateau_needy_stub(needy_plugin stub_cudnn libcudnn_stub.so.9)
plateau_needy_stub(multiplying_plugin stub_cublaslt libcublasLt.so.99)  # beside which nvrtc is looked for

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
