"""Write the page of all campaign fields, when the site is built, from the models that read them."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from defect_mf_flows.campaign import describe_fields

PAGE = """# Campaign fields

Every field with its default and meaning, as `defect-mf validate --schema` prints them. What is
not given takes its default; an unknown key is refused with the nearest valid name.

```yaml
{fields}
```
"""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the page to those on disk."""
    content = PAGE.format(fields="\n".join(describe_fields()[1:]).strip())
    files.append(File.generated(config, "fields.md", content=content))
    return files
