"""HMDB51, Something-Something and the like in miniature: real video files and lists in their real layouts."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image

from common.errors import UserError
from datamodules import few_shot_video
from datamodules.few_shot_video import FewShotVideo
from datamodules.formats import extract_frames, video
from datamodules.formats.few_shot_lists import read_names, read_split
from datamodules.formats.video import ClipFinder, evenly, in_segments, read_clip
from networks.clip.pretrained import clip_normalization
from tests.datamodules.miniature_video import FOLDERS, miniature, write_video

SMALL = {"image_size": 28, "resize": 32, "train_episodes": 4, "num_workers": 0, "batch_size": 1, "queries": 2}


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm"])
def test_frames_of_a_video_are_those_asked_for(tmp_path, suffix):
    write_video(tmp_path / f"a{suffix}", 24)
    clip = read_clip(tmp_path / f"a{suffix}", lambda count: np.array([0, 5, 11, count - 1]))
    assert clip.shape == (4, 3, 32, 32)
    assert clip.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 40, 88, 184], abs=8)


def test_a_folder_of_frames_is_a_clip(tmp_path):
    for k in range(12):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (k, k, k)).save(tmp_path / "a" / f"{k:05d}.png")
    clip = read_clip(tmp_path / "a", lambda count: np.array([1, count - 1]))
    assert clip.shape == (2, 3, 16, 20)
    assert clip[:, 0, 0, 0].tolist() == [1, 11]


def test_what_is_no_clip_is_told(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="not a whole video"):
        read_clip(tmp_path / "a.mp4", lambda count: np.array([0]))
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="has no frames"):
        read_clip(tmp_path / "b", lambda count: np.array([0]))
    (tmp_path / "b" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="not a whole picture"):
        read_clip(tmp_path / "b", lambda count: np.array([0]))


def test_segments_have_a_frame_each():
    # clip_fsar §2.8.
    assert in_segments(80, 8, random=False).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    drawn = np.stack([in_segments(83, 8, random=True) for _ in range(200)])
    assert ((drawn // 10) == np.arange(8)).all()
    assert all(len(np.unique(column)) == 10 for column in drawn.T)
    assert in_segments(5, 8, random=True).tolist() == [0, 0, 1, 1, 2, 3, 3, 4]
    assert evenly(300, 8, 35)[[0, -1]].tolist() == [0, 265]
    assert evenly(60, 8, 35)[[0, -1]].tolist() == [0, 59]
    assert evenly(8, 8, 35).tolist() == list(range(8))


def test_lists_are_read_in_all_their_forms(tmp_path):
    names = ["run", "jump"]
    for line, expected in (
        ("train1//jump/a.avi", ("jump/a.avi", 1)),
        ("test0/74225", ("74225", 0)),
        ("train01//jump/1/a.avi", ("jump/1/a.avi", 1)),
    ):
        (tmp_path / "list.txt").write_text(line + "\n\n")
        found = read_split(tmp_path / "list.txt", names)
        assert (found.clips[0], found.labels[0]) == expected
    (tmp_path / "list.csv").write_text("path,class\na.mp4,jump\nb.mp4,0\n")
    found = read_split(tmp_path / "list.csv", names)
    assert found.labels == [1, 0]
    for content, words in (
        ("jump/a.avi\n", "line 1: 'jump/a.avi'"),
        ("train7//a\n", "class 7, there are 2"),
        ("", "lists no"),
        ("train0//a\ntrain1//a\n", "lists a 2 times"),
    ):
        (tmp_path / "list.txt").write_text(content)
        with pytest.raises(ValueError, match=words):
            read_split(tmp_path / "list.txt", names)
    for content, words in (
        ("a,b\n1,2\n", "expected path and class"),
        ("path,class\na,hop\n", "neither a name"),
        ("path,class\na\n", "neither a name"),
    ):
        (tmp_path / "list.csv").write_text(content)
        with pytest.raises(ValueError, match=words):
            read_split(tmp_path / "list.csv", names)
    (tmp_path / "names.txt").write_text("run\nrun\n")
    with pytest.raises(ValueError, match="run stands twice"):
        read_names(tmp_path / "names.txt")


@pytest.mark.parametrize("kind", ["hmdb51", "ucf101", "k100", "ssv2"])
def test_miniatures_in_their_real_layouts(tmp_path, kind):
    data = FewShotVideo(**SMALL, **miniature(tmp_path, kind), folders=FOLDERS[kind])
    data.check()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (1, 15, 8, 3, 28, 28)
    assert batch["image"].dtype == torch.uint8
    batch = data.on_after_batch_transfer(batch, 0)
    # Clips of a class have its own grey.
    shown = batch["image"][0].mean(dim=(1, 2, 3, 4))
    grey = (shown + 1) * 127.5
    truth = torch.cat([batch["class"][0], batch["class"][0].repeat_interleave(2)])
    assert torch.allclose(grey, 40 * truth + 20.0, atol=12)
    test = data.source("test")
    assert [int(test[k]["label"]) for k in range(5)] == [0, 1, 2, 3, 4]
    assert torch.equal(test[3]["image"], test[3]["image"])
    assert data.class_names("test")[4].endswith("test 4")


def test_queries_alone_are_changed_and_a_clip_has_one_crop(tmp_path):
    # Of Kinetics only (clip_fsar §2.8).
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3) | {"resize": 40}
    plain, changed = (FewShotVideo(**options, query_augmentation=changes).source("fit") for changes in (False, True))
    kinds = [type(step).__name__ for step in changed.queries.transform.transforms]
    assert kinds[2:] == ["RandomHorizontalFlip", "ColorJitter", "RandomGrayscale"]
    for clips in (plain.queries, plain.clips, changed.clips):
        assert [type(step).__name__ for step in clips.transform.transforms] == ["Resize", "RandomCrop"]
    jitter = changed.queries.transform.transforms[3]
    assert (jitter.brightness, jitter.hue) == ((0.5, 1.5), (-0.25, 0.25))
    still = torch.randint(256, (1, 3, 40, 40), dtype=torch.uint8).expand(8, -1, -1, -1)
    for source in (plain.queries, changed.queries):
        shown = source.transform(still)
        assert shown.dtype == torch.uint8
        assert all(torch.equal(shown[0], frame) for frame in shown)


def test_clips_of_videos_are_the_same_in_any_worker(tmp_path):
    # With crops, colors and frames that are drawn (clip_fsar §2.1, §2.8).
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3) | {"query_augmentation": True, "resize": 40}
    one, other = (list(FewShotVideo(**options | {"num_workers": n}).train_dataloader()) for n in (0, 2))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0]["image"], one[1]["image"])


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    for k in range(12):
        Image.new("RGB", (4 + k % 2, 4), (k, k, k)).save(tmp_path / f"{k}.png")
    clip = read_clip(tmp_path, np.arange)
    assert clip[:, 0, 0, 0].tolist() == list(range(12))
    assert clip.shape == (12, 3, 4, 4)


def test_a_header_that_promises_too_much_shows_the_last_frame_again(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 10)
    monkeypatch.setattr(video, "count_frames", lambda path: 20)
    clip = read_clip(tmp_path / "a.mp4", lambda count: np.array([0, 9, count - 5, count - 1]))
    assert torch.equal(clip[1], clip[2])
    assert torch.equal(clip[1], clip[3])


def test_video_files_without_pyav_are_told(tmp_path, monkeypatch):
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3)
    monkeypatch.setattr(few_shot_video, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'quire\[video\]'"):
        FewShotVideo(**options).check()


def test_missing_files_and_common_classes_are_told(tmp_path):
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3)
    with pytest.raises(ValueError, match=r"data.lists should name a file for each of fit, val, test"):
        FewShotVideo(**options | {"lists": {"fit": "a"}})
    with pytest.raises(FileNotFoundError, match=r"no file data.lists.val=.*expected there: lines such as"):
        FewShotVideo(**options | {"lists": options["lists"] | {"val": "none.txt"}}).check()
    (tmp_path / "videos" / "act_fit_0" / "clip_1.avi").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 15 clips of data.lists.fit are not in .*act_fit_0/clip_1.avi"):
        FewShotVideo(**options).check()
    # Splits share no clip and no class (clip_fsar §2.1).
    (tmp_path / "val.txt").write_text((tmp_path / "fit.txt").read_text())
    with pytest.raises(
        ValueError, match=r"clip 'videos/act_fit_0/clip_0.avi' is in data.lists.fit and in data.lists.val"
    ):
        FewShotVideo(**options).check()
    (tmp_path / "val_names.txt").write_text("act fit 1\nb\nc\nd\ne\n")
    with pytest.raises(ValueError, match=r"class 'act fit 1' is in data.names.fit and in data.names.val"):
        FewShotVideo(**options).check()


@pytest.mark.parametrize("frames", [0, 8])
def test_extracted_frames_are_read_in_the_place_of_videos(tmp_path, frames, capsys):
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    words = [
        str(tmp_path / "videos"),
        str(tmp_path / "frames" / "videos"),
        "--size=32",
        f"--frames={frames}",
        "--processes=2",
    ]
    assert extract_frames.main(words) == 2
    told = capsys.readouterr()
    assert "broken.mp4 is not a whole video" in told.err
    assert "45 of 46 videos" in told.out
    folder = tmp_path / "frames" / "videos" / "act_fit_0" / "clip_1"
    assert len(list(folder.iterdir())) == (frames or 20)
    before = folder.stat().st_mtime_ns
    assert extract_frames.main(words) == 2
    assert folder.stat().st_mtime_ns == before
    videos, pictures = (FewShotVideo(**options, folders=[name]) for name in ("", "frames"))
    pictures.check()
    one, other = (data.source("test")[7]["image"] for data in (videos, pictures))
    assert torch.allclose(one.float(), other.float(), atol=8)
    with pytest.raises(SystemExit):
        extract_frames.main([str(folder), str(tmp_path / "frames")])
    assert "no videos" in capsys.readouterr().err


def test_names_are_found_with_other_suffixes(tmp_path):
    write_video(tmp_path / "one" / "7.webm", 3)
    assert ClipFinder([tmp_path, tmp_path / "one"]).find("7") == tmp_path / "one" / "7.webm"
    assert ClipFinder([tmp_path / "one"]).find("7.mp4") == tmp_path / "one" / "7.webm"
    assert ClipFinder([tmp_path]).find("one/7") == tmp_path / "one" / "7.webm"
    assert ClipFinder([tmp_path]).find("7") is None
    assert ClipFinder([tmp_path / "two"]).find("7") is None


def coloured(root, count):
    """Write clips of 64 x 32: red rises from left to right, green tells the frame, blue is 200."""
    options = miniature(root, "hmdb51", clips=3)
    for path in root.rglob("*.avi"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=12)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 32, "yuv420p", 4_000_000
            for k in range(count):
                pixels = np.empty((32, 64, 3), np.uint8)
                pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.linspace(40, 220, 64), 3 * k + 20, 200
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    return options


@pytest.mark.parametrize("sampling", ["segments", "even"])
def test_test_clips_are_middle_frames_and_crops_in_rgb(tmp_path, sampling):
    # Frames, resize without regard to the aspect ratio, center crop (clip_fsar §2.8).
    options = SMALL | coloured(tmp_path, 60) | {"resize": 40, "sampling": sampling}
    shown = FewShotVideo(**options).source("test")[0]["image"].float()
    places = in_segments(60, 8, random=False) if sampling == "segments" else evenly(60, 8, 35)
    assert torch.allclose(shown[:, 1].mean(dim=(1, 2)), torch.from_numpy(3 * places + 20).float(), atol=5)
    # The crop shows columns 6 to 34 of 40.
    across = shown[:, 0].mean(dim=(0, 1))
    assert torch.allclose(across, torch.linspace(40 + 180 * 6.5 / 40, 40 + 180 * 33.5 / 40, 28), atol=8)
    assert shown[:, 2].mean() == pytest.approx(200, abs=8)


def test_training_draws_frames_and_crops_anew(tmp_path):
    torch.manual_seed(0)
    clips = FewShotVideo(**SMALL | coloured(tmp_path, 60) | {"resize": 40}).source("fit").clips
    drawn = torch.stack([clips[0]["image"].float() for _ in range(12)])
    frames = ((drawn[:, :, 1].mean(dim=(2, 3)) - 20) / 3).round()
    assert all(len(column.unique()) > 2 for column in frames.T)
    assert drawn[:, :, 0].mean(dim=(1, 2, 3)).std() > 3
    fixed = FewShotVideo(**SMALL | coloured(tmp_path, 60) | {"test_sampling": "random"}).source("test")
    assert len({fixed[0]["image"][:, 1].float().mean().item() for _ in range(6)}) > 2


def test_colours_are_normalised_as_clip_was_trained():
    data = FewShotVideo(
        **SMALL, lists=dict.fromkeys(["fit", "val", "test"], "a"), names=dict.fromkeys(["fit", "val", "test"], "b")
    )
    image = torch.tensor([10, 100, 250], dtype=torch.uint8).view(1, 1, 1, 3, 1, 1)
    assert data.on_after_batch_transfer({"image": image}, 0)["image"].flatten().tolist() == pytest.approx(
        [value / 127.5 - 1 for value in (10, 100, 250)]
    )
    module = SimpleNamespace(normalization=clip_normalization("RN50-quickgelu"))
    data.trainer = SimpleNamespace(lightning_module=module)
    found = data.on_after_batch_transfer({"image": image}, 0)["image"].flatten()
    constants = zip((10, 100, 250), OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, strict=True)
    assert found.tolist() == pytest.approx([(value / 255 - mean) / std for value, mean, std in constants], rel=1e-5)
    assert clip_normalization("mini") is None


def test_a_test_needs_the_tests_clips_alone(tmp_path):
    options = SMALL | miniature(tmp_path, "hmdb51", clips=3)
    for path in (tmp_path / "videos").glob("act_[fv]*/*"):
        path.unlink()
    data = FewShotVideo(**options)
    data.check_test()
    assert len(data.source("test")) == 15
    with pytest.raises(FileNotFoundError, match=r"15 of 15 clips of data.lists.fit are not in"):
        data.check()


def test_lists_of_any_editor_are_read_or_told(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffrun\njump\n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ["run", "jump"]
    (tmp_path / "list.csv").write_text("\ufeffpath,class\na.mp4,jump\n", encoding="utf-8")
    assert read_split(tmp_path / "list.csv", ["run", "jump"]).labels == [1]
    (tmp_path / "names.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names.txt is not in UTF-8 \(byte 3\)"):
        read_names(tmp_path / "names.txt")


def test_random_frames_of_even_sampling_are_told(tmp_path):
    with pytest.raises(UserError, match="test_sampling is random: evenly spaced"):
        FewShotVideo(**SMALL, **miniature(tmp_path, "k100", clips=3), sampling="even", test_sampling="random")
