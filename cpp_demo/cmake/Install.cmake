# `cmake --install` puts the library where find_package(edgefer) finds it.
set(_where "${CMAKE_INSTALL_LIBDIR}/cmake/edgefer")
install(TARGETS edgefer EXPORT edgeferTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT edgeferTargets NAMESPACE edgefer:: DESTINATION ${_where})
configure_package_config_file(cmake/edgeferConfig.cmake.in edgeferConfig.cmake INSTALL_DESTINATION ${_where})
write_basic_package_version_file(edgeferConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/edgeferConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/edgeferConfigVersion.cmake
  cmake/FindTensorRT.cmake
  DESTINATION ${_where})
