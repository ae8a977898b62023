"""What the tests of sessions over the fakes share: synthetic faces, the right answers, threads, counted calls."""

import threading

import numpy as np

from edgefer.engines.onnxruntime import OnnxRuntimeSession
from tests.engines.conftest import tiny

VERSIONS = ("8.5.2", "8.6.1", "10.3.0", "10.16.1", "11.4.0")
PACKAGES = ("cuda-bindings", "pycuda")


def faces(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


def expected(batch):
    session = OnnxRuntimeSession(tiny())
    return session.run({"faces": batch})["logits"]


def check(session, count, seed=0):
    batch = faces(count, seed)
    np.testing.assert_allclose(session.run({"faces": batch})["logits"], expected(batch), rtol=1e-5)


def counted(owner, name):
    """Every call of ``owner.name`` is kept in the list that is returned."""
    calls, real = [], getattr(owner, name)

    def call(*arguments, **named):
        calls.append(arguments)
        return real(*arguments, **named)

    setattr(owner, name, call)
    return calls


def inside(work, threads):
    started = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def without_session(real):
    import onnxruntime

    def init(self, runtime, header, model):
        kept, onnxruntime.InferenceSession = onnxruntime.InferenceSession, lambda *a, **k: None
        try:
            real(self, runtime, header, model)
        finally:
            onnxruntime.InferenceSession = kept

    return init


def rtx_plan(here):
    from edgefer.engines.tensorrt.build import build_plan
    from edgefer.engines.tensorrt.options import Batches, BuilderOptions
    from tests.engines.conftest import CONTRACT

    return build_plan(tiny(), CONTRACT, "fp32", BuilderOptions(batches=Batches(1, 2, 8)), rtx=True).plan
