"""BibTeX of the papers that a result rests on."""

from __future__ import annotations

_PAPERS = {
    "ditflow": """@inproceedings{pondaven2025ditflow,
  title     = {Video Motion Transfer with Diffusion Transformers},
  author    = {Pondaven, Alexander and Siarohin, Aliaksandr and Tulyakov, Sergey and
               Torr, Philip and Pizzati, Fabio},
  booktitle = {CVPR},
  year      = {2025},
  note      = {arXiv:2412.07776}
}""",
    "cogvideox": """@inproceedings{yang2025cogvideox,
  title     = {CogVideoX: Text-to-Video Diffusion Models with An Expert Transformer},
  author    = {Yang, Zhuoyi and Teng, Jiayan and Zheng, Wendi and Ding, Ming and
               Huang, Shiyu and Xu, Jiazheng and others},
  booktitle = {ICLR},
  year      = {2025},
  note      = {arXiv:2408.06072}
}""",
}


def cite(*names: str) -> str:
    """BibTeX of the named papers, or without names of all that ditflow rests on.

    Raises ValueError for an unknown name.
    """
    unknown = [name for name in names if name not in _PAPERS]
    if unknown:
        raise ValueError(
            f"no citation for {', '.join(map(repr, unknown))}; there are {', '.join(_PAPERS)}."
        )
    return "\n\n".join(_PAPERS[name] for name in names or _PAPERS)
