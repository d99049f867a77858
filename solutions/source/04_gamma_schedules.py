# %% [markdown]
# # 04 Gamma schedules
#
# $\gamma(r)$ is the share of the hole that is still hidden when the share $r$ of the steps is done. It falls from 1 to 0;
# how it falls decides how many tokens each step may keep.

# %%
#| exercise: gamma_func
def gamma_func(mode="cosine"):
    """The schedule of that name: a function of progress in [0, 1], a float or an array, same kind back."""
    ### BEGIN SOLUTION
    schedules = {
        "linear": lambda r: 1 - r,
        "cosine": lambda r: np.cos(np.pi * r / 2),
        "square": lambda r: 1 - r**2,
    }
    if mode not in schedules:
        raise ValueError(f"mode must be one of {', '.join(schedules)}, not {mode!r}")
    return schedules[mode]
    ### END SOLUTION
