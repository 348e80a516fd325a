"""Our own format: written requests are read back unchanged."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edits.ours import request_fields
from audit.edits.requests import EditRequest, Probe
from audit.edits.sources import load_requests, requests_fingerprint

# Text may contain braces, quotes, line separators, other scripts and characters of several code units.
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="{}") | st.sampled_from('{}"\\\u2028é漢😀'),
    min_size=1,
    max_size=12,
).filter(lambda text: text == text.strip() and "{}" not in text)
probes = st.builds(Probe, texts.map("near {0}".format), texts)


@st.composite
def edit_requests(draw: st.DrawFn, case_id: str) -> EditRequest:
    return EditRequest(
        case_id=case_id,
        subject=f"{draw(texts)} {case_id}",
        prompt="{}" + f" of {draw(texts)}",
        target_new=f"new {draw(texts)}",
        target_true=draw(st.none() | texts.map("old {0}".format)),
        paraphrases=tuple(draw(st.lists(texts.map("again {0}".format), max_size=2))),
        neighborhood=tuple(draw(st.lists(probes, max_size=2))),
        portability=tuple(draw(st.lists(probes, max_size=2))),
    )


@st.composite
def request_files(draw: st.DrawFn) -> Sequence[EditRequest]:
    return [draw(edit_requests(f"case {index}")) for index in range(draw(st.integers(1, 4)))]


def write_requests(path: Path, requests: Iterable[EditRequest]) -> None:
    lines = [json.dumps(request_fields(request), ensure_ascii=False) for request in requests]
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")


@given(request_files())
def test_written_requests_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, requests: Sequence[EditRequest]
) -> None:
    path: Path = tmp_path_factory.mktemp("edits") / "edits.jsonl"
    write_requests(path, requests)
    loaded = load_requests(str(path))
    assert loaded.requests == tuple(requests)
    assert loaded.fingerprint == requests_fingerprint(requests)
