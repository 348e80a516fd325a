"""A hook of MkDocs: files elsewhere in the repository to which a page links become part of the site.

Pages link to such files as GitHub needs it, `../benchmarks/results/verdict-power.md` from docs/verdicts.md. The site
has docs/ at its root, and these files under their own folders. A link that leads nowhere is left as it is, so that
MkDocs reports it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

TARGET = re.compile(r"(?<=\]\()[^)#:\s]+")  # the file of a Markdown link or picture, without web addresses and anchors


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files, and the files to which they link, and adapt the links."""
    root = Path(config.config_file_path).parent
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        page = waiting.pop()
        folder = Path(page.abs_src_path or "").parent.relative_to(root).as_posix()

        def link(found: re.Match[str], page: File = page, folder: str = folder) -> str:
            path = posixpath.normpath(posixpath.join(folder, found[0]))  # in the repository
            if path.startswith("..") or not (root / path).is_file():
                return found[0]
            uri = path.removeprefix("docs/")
            if files.get_file_from_path(uri) is None:
                new = File.generated(config, uri, abs_src_path=str(root / path), inclusion=InclusionLevel.NOT_IN_NAV)
                files.append(new)
                waiting.extend([new] if new.is_documentation_page() else [])
            return posixpath.relpath(uri, posixpath.dirname(page.src_uri) or ".")

        page.content_string = TARGET.sub(link, page.content_string)
    return files
