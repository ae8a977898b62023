# TensorRT's and CUDA's runtime: the target TensorRT::TensorRT, and TensorRT_MISSING, what was not found.
#
# Hints, each a variable or an environment variable: TENSORRT_INCLUDE and TENSORRT_LIB (folders), CUDA_HOME.
include(FindPackageHandleStandardArgs)

set(_cuda "${CUDA_HOME}" "$ENV{CUDA_HOME}" /usr/local/cuda)
if(CMAKE_CROSSCOMPILING)
  set(_arch "${CMAKE_SYSTEM_PROCESSOR}-linux")
else()
  set(_arch "${CMAKE_HOST_SYSTEM_PROCESSOR}-linux")
endif()

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h HINTS "${TENSORRT_INCLUDE}" "$ENV{TENSORRT_INCLUDE}")
find_library(TensorRT_LIBRARY nvinfer HINTS "${TENSORRT_LIB}" "$ENV{TENSORRT_LIB}")
find_path(CudaRuntime_INCLUDE_DIR cuda_runtime_api.h HINTS ${_cuda} PATH_SUFFIXES include "targets/${_arch}/include")
find_library(CudaRuntime_LIBRARY cudart HINTS ${_cuda} PATH_SUFFIXES lib64 lib "targets/${_arch}/lib")

set(TensorRT_MISSING "")
foreach(_part TensorRT_INCLUDE_DIR:NvInferRuntime.h TensorRT_LIBRARY:libnvinfer
        CudaRuntime_INCLUDE_DIR:cuda_runtime_api.h CudaRuntime_LIBRARY:libcudart)
  string(REPLACE ":" ";" _part "${_part}")
  list(GET _part 0 _variable)
  list(GET _part 1 _name)
  if(NOT ${_variable})
    list(APPEND TensorRT_MISSING "${_name}")
  endif()
endforeach()
string(REPLACE ";" ", " TensorRT_MISSING "${TensorRT_MISSING}")

find_package_handle_standard_args(TensorRT REQUIRED_VARS
  TensorRT_INCLUDE_DIR TensorRT_LIBRARY CudaRuntime_INCLUDE_DIR CudaRuntime_LIBRARY)
if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
  add_library(TensorRT::TensorRT INTERFACE IMPORTED)
  target_include_directories(TensorRT::TensorRT SYSTEM INTERFACE
    "${TensorRT_INCLUDE_DIR}" "${CudaRuntime_INCLUDE_DIR}")
  target_link_libraries(TensorRT::TensorRT INTERFACE "${TensorRT_LIBRARY}" "${CudaRuntime_LIBRARY}")
endif()
mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY CudaRuntime_INCLUDE_DIR CudaRuntime_LIBRARY)
