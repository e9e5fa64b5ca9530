# The integration tests run the three programs; they need them built.
foreach(name integration_batch_norm_test integration_doctor_test integration_end_to_end_test integration_evaluate_job_test integration_evaluate_test integration_hang_test integration_ingest_test integration_kill_matrix_test integration_own_mpirun_test
        integration_pipeline_test integration_refusals_test integration_stop_test integration_zombie_test)
  if(TARGET ${name})
    foreach(program plateau plateau-coordinator plateau-worker)
      if(TARGET ${program})
        add_dependencies(${name} ${program})
      endif()
    endforeach()
  endif()
endforeach()

add_dependencies(integration_train_test plateau-worker)
add_dependencies(integration_doctor_test stub_plugin)  # whose devices hang
if(TARGET plateau_cuda_pretended)
  add_dependencies(integration_device_train_test plateau-worker plateau_cuda_pretended)
  add_dependencies(integration_device_schedule_test plateau plateau-coordinator plateau-worker plateau_cuda_pretended)
  add_dependencies(integration_pretended_device_test plateau-worker plateau_cuda_pretended)
endif()
add_dependencies(integration_gray_store_test plateau-worker)
add_dependencies(integration_warm_start_test plateau-worker)

# Needs the right to mount a small tmpfs; skipped with a message without it.
add_executable(integration_full_disk integration/full_disk_privileged.cpp)
set_target_properties(integration_full_disk PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(integration_full_disk PRIVATE plateau_worker_run GTest::gmock GTest::gtest_main)
target_compile_definitions(integration_full_disk PRIVATE PLATEAU_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
add_dependencies(integration_full_disk plateau-worker)
gtest_discover_tests(integration_full_disk DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE LABELS "integration;privileged")

add_executable(integration_read_only integration/read_only_privileged.cpp)
set_target_properties(integration_read_only PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(integration_read_only PRIVATE plateau_dataset GTest::gmock GTest::gtest_main)
gtest_discover_tests(integration_read_only DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300 LABELS "integration;privileged")

# Needs root: its hosts are network namespaces; skipped with a message without it.
add_executable(integration_three_hosts integration/three_hosts_privileged.cpp)
set_target_properties(integration_three_hosts PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(integration_three_hosts PRIVATE plateau_cli GTest::gmock GTest::gtest_main)
target_compile_definitions(integration_three_hosts PRIVATE PLATEAU_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
add_dependencies(integration_three_hosts plateau plateau-coordinator plateau-worker)
gtest_discover_tests(integration_three_hosts DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE LABELS "integration;privileged")

# Needs the right to mount: it hides CUDA; skipped with a message without it.
add_executable(integration_without_cuda integration/without_cuda_privileged.cpp)
set_target_properties(integration_without_cuda PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(integration_without_cuda PRIVATE plateau_worker_run GTest::gmock GTest::gtest_main)
target_compile_definitions(integration_without_cuda PRIVATE PLATEAU_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
add_dependencies(integration_without_cuda plateau-worker)
gtest_discover_tests(integration_without_cuda DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE LABELS "integration;privileged")
