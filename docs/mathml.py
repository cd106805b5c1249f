"""Formulas as MathML, which browsers draw by themselves: pages need no script and no network."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number

_SIZED = re.compile(r"\\([bB]igg?)(?![a-zA-Z])\s*(\\?.)")


def to_mathml(formula: str, *, is_block: bool = False) -> str:
    r"""Convert LaTeX; ``\big(`` becomes ``\bigl(`` or ``\bigr(``, which the converter knows."""
    is_open = False

    def with_side(found: re.Match) -> str:
        nonlocal is_open
        size, delimiter = found.groups()
        side = "l" if delimiter in "([" else "r" if delimiter in ")]" else "lr"[is_open]
        is_open = side == "l" and delimiter not in "(["
        return rf"\{size}{side}{delimiter}"

    text = _SIZED.sub(with_side, formula.strip())
    return tex2mathml(re.sub(r"\\dots\b", r"\\ldots", text), as_block=is_block)


def _visit_inline(self: object, node: nodes.math) -> None:
    self.body.append(f'<span class="math notranslate">{to_mathml(node.astext())}</span>')
    raise nodes.SkipNode


def _visit_block(self: object, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})</span>')
    self.body.append(f"{to_mathml(node.astext(), is_block=True)}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
