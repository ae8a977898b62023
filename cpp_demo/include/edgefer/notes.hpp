#pragma once

#include <functional>
#include <string>

namespace edgefer {

/// Takes what a user should know and that is no fault: another version, another CPU, a fallback.
using Announcer = std::function<void(const std::string&)>;

/// Who takes notes from now on; without one they go to stderr, as `note: …`. An empty one takes none.
void set_announcer(Announcer announcer);

/// Pass a note on.
void announce(const std::string& note);

}  // namespace edgefer
