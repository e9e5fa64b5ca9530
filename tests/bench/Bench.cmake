# Benchmarks: plain programs, built with everything else and run by hand; their dated results are in RESULTS.md.
add_executable(loader_bench ${CMAKE_CURRENT_SOURCE_DIR}/bench/loader_bench.cpp)
target_link_libraries(loader_bench PRIVATE plateau_dataset)

add_executable(store_scale_bench ${CMAKE_CURRENT_SOURCE_DIR}/bench/store_scale_bench.cpp)
target_link_libraries(store_scale_bench PRIVATE plateau_dataset)
