"""The network as it is shipped: uint8 faces in, logits out, normalisation inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefer.contract import Contract


class Deployable(nn.Module):
    """A network behind its contract's normalisation, ``y = a·x + b`` per channel.

    Training, PyTorch inference and the exported graph all use this module, so that they cannot disagree. The cast
    comes first: TensorRT takes a uint8 input only if its first consumer is a cast to float. With ``test_time_flip``,
    faces and their horizontal flips go through the network as one batch of twice the size.
    """

    a: Tensor
    b: Tensor

    def __init__(self, network: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.network, self.test_time_flip = network, contract.test_time_flip
        a, b = contract.normalisation.affine()
        self.shifted = bool((b != 0).any())
        # The permuted faces stay channels-last in memory, and so do all maps behind them: up to twice as fast in eager
        # mode where convolutions are depthwise. The zoo's networks do not mind; others may call .view, which does.
        self.copied = not type(network).__module__.startswith("edgefer.models.")
        self.register_buffer("a", torch.from_numpy(a).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("b", torch.from_numpy(b).view(1, -1, 1, 1), persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Uint8 N×H×W×C faces (or float ones on the same scale, 0…255) to float32 N×classes logits."""
        logits: Tensor = self.network(self.normalised(faces))
        if not self.test_time_flip:
            return logits
        halves: Tensor = logits.unflatten(0, (2, -1))  # type: ignore[no-untyped-call]  # missing in torch's stubs
        return halves.mean(dim=0)

    def normalised(self, faces: Tensor) -> Tensor:
        """The input of the network itself: float32 N×C×H×W, or 2N×C×H×W with the flipped faces after the faces."""
        x = faces.to(torch.float32).permute(0, 3, 1, 2)
        if self.test_time_flip:
            x = _with_flipped_faces(x)
        if self.copied:
            x = x.clone(memory_format=torch.contiguous_format)  # .contiguous() copies no grey face; no node in ONNX
        x = x * self.a
        if self.shifted:
            x = x + self.b
        return x


def _with_flipped_faces(x: Tensor) -> Tensor:
    """N×C×H×W to 2N×C×H×W: the faces, then the same faces flipped.

    Columns are gathered both ways and the halves of the width become the batch. To concatenate would be plainer, but
    OpenVINO 2026.4 computes INT8 wrongly behind a Concat where only what convolutions read is quantised.
    """
    width = x.shape[3]
    columns = torch.arange(width, device=x.device)
    both = x[:, :, :, torch.cat([columns, columns.flip(0)])]
    halves: Tensor = both.unflatten(3, (2, width))  # type: ignore[no-untyped-call]  # missing in torch's stubs
    return halves.permute(3, 0, 1, 2, 4).flatten(0, 1)
