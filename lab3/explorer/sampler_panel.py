"""Be the sampler: a student chooses which predictions each step keeps, against MaskGIT on the same hole and seed.

In: MaskGIT's `Trace`. Out: widgets. A choice is sent to the explorer, which decodes again with all choices so far.
"""

import ipywidgets as widgets
import torch

from lab3.explorer import filmstrip
from lab3.explorer.pads import TokenPad

MASKGIT, YOU = "MaskGIT", "you"


class SamplerPanel:
    """The game: `begin` starts one, `go_on` takes the decoding that was asked for; `box` holds its widgets.

    Args:
        decode: `decode(kept)` asks for a decoding that keeps these tokens in its first steps, (256,) bool a step.
    """

    def __init__(self, decode):
        self.decode, self.maskgit, self.trace = decode, None, None
        self.kept = []  # for each step so far the tokens kept and who chose them: `YOU`, `MASKGIT`, None for no choice
        self.task, self.result = widgets.HTML(), widgets.HTML()
        self.pad = TokenPad()
        self.sure = widgets.Checkbox(description="show confidence, not predictions", indent=False,
                                     layout={"width": "auto"})
        self.keep = widgets.Button(description="Keep these", icon="check", layout={"width": "12em"})
        self.leave = widgets.Button(description="Let MaskGIT choose this step", layout={"width": "18em"})
        self.undo = widgets.Button(description="Undo a step", icon="undo", layout={"width": "10em"})
        self.restart = widgets.Button(description="Start over", layout={"width": "10em"})
        self.pad.observe(self._count, "marked")
        self.sure.observe(self._show_picture, "value")
        self.keep.on_click(lambda _: self._choose(self._marked(), YOU))
        self.leave.on_click(lambda _: self._choose(self._own(), MASKGIT))
        self.undo.on_click(lambda _: self._undo())
        self.restart.on_click(lambda _: self._begin_again())
        self.pad.layout.flex = "0 1 416px"
        self.chosen = widgets.VBox([self.keep, self.leave])
        right = widgets.VBox([self.task, self.chosen, widgets.HBox([self.undo, self.restart]), self.sure, self.result],
                             layout={"flex": "1 1 20em", "min_width": "min(100%, 20em)"})
        self.box = widgets.Box([self.pad, right], layout={"flex_flow": "row wrap", "grid_gap": "4px 24px"})

    def begin(self, maskgit):
        """Start a game against a `Trace`; one that goes on against this very trace stays as it is."""
        if maskgit is not self.maskgit:
            self.maskgit = maskgit
            self._begin_again()

    def go_on(self, trace):
        """Show the next step to choose in, or the result."""
        self.trace = trace
        hidden = trace.masks.sum(dim=1).tolist()
        # The last step takes all predictions; a step that keeps none or all leaves no choice.
        while (step := len(self.kept)) < len(hidden) - 2 and hidden[step + 1] in (0, hidden[step]):
            self.kept.append((self._own(), None))
        self.over = step >= len(hidden) - 2
        self.pad.layout.display = self.chosen.layout.display = self.sure.layout.display = "none" if self.over else ""
        self.undo.disabled = self.restart.disabled = not any(who for _, who in self.kept)
        self.result.value = self._scores() if self.over else ""
        with self.pad.hold_sync():
            self.pad.free = _string(trace.masks[step])
            self.pad.most = hidden[step] - hidden[step + 1]
            self.pad.marked = "0" * 256
        self._show_picture()
        self._count()

    def _count(self, _=None):
        """Say how many tokens are to be chosen; that many can be kept."""
        step, n = len(self.kept), self.pad.most
        self.keep.description = f"Keep these {n}" if n != 1 else "Keep this one"
        self.keep.disabled, self.leave.disabled = self.pad.marked.count("1") != n, False
        steps = len(self.trace.masks) - 1
        self.task.value = f"{filmstrip.STYLE}<div class='l3' role='status'>" + (
            "" if self.over else
            f"<h4>Be the sampler: step {step + 1} of {steps}</h4><p>The model has predicted all "
            f"{self.pad.free.count('1')} hidden tokens, outlined. Choose <b>{n}</b> to keep, as many as the schedule "
            "says. The others are hidden and predicted again.</p>") + "</div>"

    def _show_picture(self, _=None):
        step = min(len(self.kept), len(self.trace.pictures) - 1)
        picture = filmstrip.confidence_picture(self.trace.confidence[step]) if self.sure.value else (
            self.trace.pictures[step])
        self.pad.picture = filmstrip.data_url(picture)

    def _marked(self):
        return torch.tensor([character == "1" for character in self.pad.marked])

    def _own(self):
        """What MaskGIT keeps in this step."""
        step = len(self.kept)
        return self.trace.masks[step] & ~self.trace.masks[step + 1]

    def _choose(self, tokens, who):
        self.kept.append((tokens, who))
        if who == MASKGIT:  # the trace goes on with this choice
            self.go_on(self.trace)
        else:
            self._ask()

    def _undo(self):
        while self.kept and self.kept.pop()[1] is None:
            pass
        self._ask()

    def _begin_again(self):
        self.kept.clear()
        self.go_on(self.maskgit)

    def _ask(self):
        if not self.kept:
            self.go_on(self.maskgit)
            return
        for button in (self.keep, self.leave, self.undo, self.restart):
            button.disabled = True
        self.pad.free = "0" * 256  # nothing can be chosen meanwhile
        self.task.value = "<div class='l3' role='status'><p>Predicting the others again.</p></div>"
        self.decode(tuple(tokens for tokens, _ in self.kept))

    def _scores(self):
        """The result: how the cats compare."""
        chosen = [who for _, who in self.kept if who]
        n = chosen.count(YOU)
        if not chosen:
            return "<div class='l3'><p>No step of this setting leaves a choice: use more steps.</p></div>"
        pictures = {"MaskGIT alone": self.maskgit} | ({"you": self.trace} if n else {})
        figures = "".join(filmstrip.figure(one.pictures[-1], name) for name, one in pictures.items())
        return (f"<div class='l3'><h4>You chose {n} of {len(chosen)} steps</h4><div class='pair'>{figures}</div>"
                f"{filmstrip.scores(pictures)}</div>")


def _string(mask):
    return "".join("01"[inside] for inside in mask.tolist())
