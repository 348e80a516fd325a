"""A hook of MkDocs: what pages link to elsewhere in the repository becomes part of the site.

Pages link to such files as GitHub needs it, `../benchmarks/results/verdict-power.md` from docs/verdicts.md. The site
has docs/ at its root, and these files under their own folders. A link to a folder leads to its README.md, or to a list
of its files. A link that leads nowhere is left as it is, so that MkDocs reports it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

TARGET = re.compile(r"(?<=\]\()[^)#:\s]+")  # the file of a Markdown link or picture, without web addresses and anchors
HOME = "readme.md"  # of the repository's README.md; under its own name it would take the place of index.md


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files, and the files to which they link, and adapt the links."""
    root = Path(config.config_file_path).parent
    waiting = [(file, posixpath.dirname(f"docs/{file.src_uri}")) for file in files if file.is_documentation_page()]
    while waiting:
        page, folder = waiting.pop()  # and where it is in the repository

        def link(found: re.Match[str], page: File = page, folder: str = folder) -> str:
            path = posixpath.normpath(posixpath.join(folder, found[0]))  # in the repository
            place = root / path
            if path.startswith("..") or not place.exists():
                return found[0]
            if place.is_dir():
                path += "/README.md"
            uri = HOME if path == "README.md" else path.removeprefix("docs/")
            if files.get_file_from_path(uri) is None:
                new = File.generated(config, uri, abs_src_path=str(root / path), inclusion=InclusionLevel.NOT_IN_NAV)
                if not (root / path).exists():
                    new.content_string = _listing(place)
                files.append(new)
                waiting.extend([(new, posixpath.dirname(path))] if new.is_documentation_page() else [])
            return posixpath.relpath(uri, posixpath.dirname(page.src_uri) or ".")

        page.content_string = TARGET.sub(link, page.content_string)
    return files


def _listing(folder: Path) -> str:
    """A page with the names of a folder's files, as links."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return "\n".join([f"# {folder.name}/", "", *(f"- [{name}]({name})" for name in names)])
