"""A gate's checks as a JUnit file, which every continuous integration shows.

The format has no schema of its own; this is the part that Jenkins, GitLab and GitHub's actions agree on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from xml.etree import ElementTree

from edgefer.atomic import write_bytes
from edgefer.measure.paired import Verdict
from edgefer.report.gate import Check


def write_junit(checks: Sequence[Check], path: str | os.PathLike[str]) -> None:
    """Write one test case a check: FAIL is a failure, INCONCLUSIVE an error, as neither lets anything through.

    Raises:
        EdgeferError: the file cannot be written.
    """
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    open_ = sum(check.verdict is Verdict.INCONCLUSIVE for check in checks)
    counts = {"tests": str(len(checks)), "failures": str(failed), "errors": str(open_)}
    suite = ElementTree.Element("testsuite", {"name": "edgefer gate", **counts})
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", {"classname": check.engine, "name": check.what})
        if check.verdict is Verdict.FAIL:
            ElementTree.SubElement(case, "failure", {"message": check.told, "type": "limit"})
        elif check.verdict is Verdict.INCONCLUSIVE:
            ElementTree.SubElement(case, "error", {"message": f"inconclusive: {check.told}", "type": "inconclusive"})
        ElementTree.SubElement(case, "system-out").text = check.told
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
