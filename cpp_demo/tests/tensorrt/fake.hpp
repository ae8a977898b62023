#pragma once

#include <functional>
#include <string>
#include <vector>

// A fake of CUDA's runtime and of TensorRT, in host memory. It says nothing about either: it shows that our side of the
// calls is kept. Nothing that is put on a stream happens before somebody waits for it.

namespace fake {

using Work = std::vector<std::function<void()>>;

struct State {
  bool integrated = false;  // the GPU shares the CPU's memory
  bool has_gpu = true;
  bool capturable = true;  // the engine can be recorded
  int version = 100300;    // of TensorRT
  int allowed = 1 << 30;   // allocations before memory runs out
  int live = 0;            // allocations, streams, graphs, engines, contexts that were not given back
  int copies = 0, enqueued = 0, launched = 0;
  int dla_cores = 0;                  // that the chip has
  int dla_core = -1;                  // that the engine was loaded for
  bool host_code = false;             // whether the runtime may run the code in engines
  long min_batch = 1, max_batch = 8;  // the engine's profile
  long side = 2, rows = 1;            // of its faces, -1: free; of its answers to each face
  Work waiting;
  Work* recording = nullptr;
};

State& state();

/// Put `work` on the stream, or into the graph that is being recorded.
void submit(std::function<void()> work);

}  // namespace fake
