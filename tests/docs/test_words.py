"""Code, commands and pages use the field's words: none of those that were replaced comes back."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLACES = ("edgefer", "benchmarks", "cpp_demo", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
SUFFIXES = (".py", ".toml", ".md", ".cpp", ".hpp", ".h", ".cu", ".c", ".txt", ".sh")

# What is said instead → what is not said. Names count by their parts: most_faces, MOST_FACES.
REPLACED = {
    "Q/DQ scheme": "flavou?rs?",
    "calibration table": "range tables?",
    "test-time flip, horizontal flip": "mirrored",
    "synthetic faces": "drawn faces|faces (?:are )?drawn|draw of",
    "candidate, result": "(?:a|the|each|every|its|their) candidates?'? figures",
    "corrections": "refin(?:e|es|ed|er|ers|ing|ement)",
    "has no effect with": "would change nothing",
    "evaluate": "judg(?:e|es|ed|ing|ement)",
    "min": "least",
    "max": "most",
    "video": "films?",
    "cost model": "prices?|priced|pricing",
    "execution context": "lanes?",
    "write the manifest": "seal(?:s|ed|ing)?",
    "FP16": "in half|half precision|halves? precision|as half|to_half|is_half|_half",
    "confidence threshold": "unsure[-_ ]under",
    "capabilities": "abilit(?:y|ies)",
    "install hints": "remed(?:y|ies)",
    "number of": "so many",
    "per second, per layer, …": r"(?:seconds|frames|images|faces|ms|bytes|one|scale|number|line|digit|bits) an? "
    "(?:second|layer|tensor|channel|face|image|call|batch|frame|row)",
}
# Plain English, or somebody else's name.
ALLOWED = (
    r"at[\s_]+(?:the )?(?:least|most)",  # sentences: "at most 8 parameters"
    r"(?:least|most) recently used",  # the name of a cache's rule
    r"most_common|most values",  # Python's Counter; an ordinary sentence on zeros
    r"judge (?:people|that)",  # what the model cards ask of people, not of networks
    r"judging people",
)
_EDGES = r"(?<![A-Za-z])(?:{})(?![A-Za-z])"


def _texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", *PLACES], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if name.endswith(SUFFIXES)]
    return {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in names if (REPOSITORY / name).is_file()}


def found(text: str, pattern: str) -> list[str]:
    """The places of ``text`` with what is not said, with a few words around them."""
    allowed = [match.span() for match in re.finditer("|".join(ALLOWED), text, re.IGNORECASE)]
    return [
        " ".join(text[max(0, match.start() - 30) : match.end() + 30].split())
        for match in re.finditer(_EDGES.format(pattern), text, re.IGNORECASE)
        if not any(start <= match.start() and match.end() <= end for start, end in allowed)
    ]


@pytest.mark.parametrize("said", REPLACED)
def test_replaced_words_stay_replaced(said):
    hits = {name: places for name, text in _texts().items() if (places := found(text, REPLACED[said]))}
    assert not hits, f"say {said}"


def test_descriptions_of_values_have_a_subject():
    """``seed: of the sample`` is no description: ``seed: seed of the sample`` is."""
    telegram = re.compile(
        r'^ +[a-z_0-9, ]+: of |"""(?:Of|That|So many) (?!those|course)|help="(?:Of|That) ', re.MULTILINE
    )
    hits = {name: telegram.findall(text) for name, text in _texts().items() if name.endswith(".py")}
    assert not {name: places for name, places in hits.items() if places}


def test_the_patterns_find_names_and_spare_sentences():
    assert found("MOST_FACES = 1; self.most_faces; the most", REPLACED["max"])
    assert len(found("judged, is_judged; misjudged", REPLACED["evaluate"])) == 2
    assert not found("at most 8, at the most; almost", REPLACED["max"])
    assert found("30 frames a second", REPLACED["per second, per layer, …"])
