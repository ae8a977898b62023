// What the app tells a person: notices on stderr, and the error that ends it. stdout is for results.
#pragma once

#include <string>

#include "edgefer/error.hpp"

namespace edgefer::app {

using edgefer::Error;

/// Print one line on stderr.
void announce(const std::string& message);

/// `value` with so many digits after the point.
std::string fixed(double value, int digits);

/// `value` as short as it can be written.
std::string shortest(double value);

}  // namespace edgefer::app
