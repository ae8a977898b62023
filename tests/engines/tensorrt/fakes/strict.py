"""What the halves of the fake of TensorRT share."""

MAGIC = b"fake plan "
ERROR, WARNING, VERBOSE = 1, 2, 4
SCRATCH = 1 << 20  # bytes of device memory that an execution context takes
COMPUTE_MS = 0.25


class Strict:
    """Only what the class declares can be set, as on pybind11's classes."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)
