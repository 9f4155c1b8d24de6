"""The contrastive loss: repeated captions share their target, and two ranks see each other's samples."""

import os
import socket

import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn import functional

from networks.clip.contrastive import contrastive_loss, soft_contrastive
from tests.cli.forks import start_server


def test_repeated_captions_share_their_target():
    images, texts = torch.randn(4, 8), torch.randn(4, 8)
    texts[1] = texts[0]
    same = torch.eye(4)
    same[0, 1] = same[1, 0] = 1
    found = soft_contrastive(images, texts, same, torch.tensor(3.0))
    logits = 3 * functional.cosine_similarity(images[:, None], texts[None], dim=-1)
    one, other = -logits.log_softmax(1), -logits.log_softmax(0)
    rows = [(one[0, 0] + one[0, 1]) / 2, (one[1, 0] + one[1, 1]) / 2, one[2, 2], one[3, 3]]
    columns = [(other[0, 0] + other[1, 0]) / 2, (other[0, 1] + other[1, 1]) / 2, other[2, 2], other[3, 3]]
    assert torch.allclose(found, (sum(rows) / 4 + sum(columns) / 4) / 2, atol=1e-5)


def batch():
    generator = torch.Generator().manual_seed(0)
    images, captions = torch.randn(6, 8, generator=generator), torch.randn(3, 8, generator=generator)
    return images.requires_grad_(), torch.tensor([0, 1, 2, 2, 1, 0]), captions


def _process(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    images, labels, captions = batch()
    own = slice(3 * rank, 3 * rank + 3)
    loss = contrastive_loss(images[own], labels[own], captions, torch.tensor(3.0))
    loss.backward()
    torch.save({"loss": loss.detach(), "gradient": images.grad}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_samples_of_all_ranks_are_each_others_negatives(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_server()
    multiprocessing.start_processes(_process, (tmp_path, port), nprocs=2, start_method="forkserver")
    images, labels, captions = batch()
    same = (labels[:, None] == labels).float()
    loss = soft_contrastive(images, captions[labels], same, torch.tensor(3.0))
    assert torch.equal(contrastive_loss(images, labels, captions, torch.tensor(3.0)), loss)
    loss.backward()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(one["loss"], loss) for one in found)
    # Every rank's loss reaches every image: DDP takes the mean of the ranks' gradients.
    assert torch.allclose(found[0]["gradient"] + found[1]["gradient"], 2 * images.grad, atol=1e-6)
    assert not found[0]["gradient"][3:].any()
