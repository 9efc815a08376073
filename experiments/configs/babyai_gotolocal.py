"""GoToLocal on two CPU cores: the configuration of `make demo`, but for its belief (`babyai_belief`). Every field can be
overridden: --config.em.epsilon=0.1"""
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.level = "BabyAI-GoToLocal-v0"
    c.seed = 0
    c.groups = 1              # parts of a batch that a loss is the mean over: a multiple of the mesh's batch shards
    c.microbatches = 1        # parts of a batch whose gradients are accumulated one after the other

    c.data = ConfigDict(dict(
        train_episodes=8000, validation_episodes=300, seed=0, workers=2,
        astray=0.0,           # share of the training episodes that begin where an agent has gone astray
        batch_size=96,
        window=12,            # W: percepts seen at once by the JEPA, and the farthest an observed plan reaches
        text_length=48,       # X: words of a text, begin and end included
        mission_length=12,
        vocab=512,            # BPE vocabulary
        tool_spans=False,     # texts with tool results in them, as marked spans: longer (take text_length 72)
        map=11,               # cells a side of a map of what was seen so far, in the place of 7 x 7 views (odd); 0: views alone
        # what percepts say of the own direction: "compass"; "turned": by how much since the mission was given; or "placed": the
        # same, and where each cell lies as seen from there
        heading="placed",
        worlds=0,             # episodes whose initial worlds come with the batches, to explore from; 0: none
        world_size=8,         # cells a side of their grids (22 for BossLevel)
    ))
    c.model = ConfigDict(dict(
        state=64, hidden=256,
        step_levels=(5, 5, 5),  # FSQ grid of the step states' code
        # the JEPA's levels above the steps: FSQ grids of state code and macro-action, the longest segment in units of the level
        # below, and what cuts it: legs, clauses, or a number of units. From the second on, `most`: segments of a plan
        levels=[dict(name="subgoal", code=(5, 5, 3), action=(5, 5, 5, 5), longest=8, segments="legs")],
        width=64, heads=4, mlp=128, layers=2, context_layers=2, queries=4,
        max_legs=4, max_steps=5,
        aim=True,             # whether a token of the context says what is at the cell that the mission aims at
        compute=dict(dtype="float32", remat="none", attention="xla"),  # of the trunk; see models.layers.Compute
        compass=False,        # whether heads read the own direction and load off the step states (with jepa.compass)
        reach=0,              # hidden width of the heads that judge empty edges of plans (with jepa.reach); 0: none
        level_link=False,     # whether the energy holds sub-plans against the state that their edge leads to
        # the actors, coarsest first, as dict(scales=("clause", "subgoal")): runs of adjacent levels ("step" is the first) of
        # which neighbours share one; (): one actor over all levels. And whether all use the same transformer layers
        actors=(), share_layers=False,
        # what an upper actor says of the sub-plan behind an edge: "risk", "learned" (models.characteristics); "": nothing
        characteristics="",
        # over the world's state: cells a side around the agent (0: none, and no train step for it), features in each
        belief=dict(size=0, features=16, hidden=128, members=3),
    ))
    c.jepa = ConfigDict(dict(
        horizon=4,
        # objectives.anti_collapse: sigreg, gaussian, vicreg, ema, none; and the term's weight
        anti_collapse="sigreg", regularise=0.05,
        slow=0.99,            # decay of the encoders' slow copy ("ema")
        inverse=0.5, variance=0.1, code=1.0, macro=1.0,
        compass=0.0,          # weight of reading the own direction and load off the step states (with model.compass)
        reach=0.0,            # weight of the reachability heads (with model.reach)
        between=0.0,          # weight of the gradient step between neighbouring levels; 0: no such train step
        exploring=0,          # of each group's rows, those that show exploring walks (needs data.worlds)
        lead=12,              # steps that a walk has taken before its window begins, at most
    ))
    c.belief = ConfigDict(dict(
        rows=16, walks=32,    # of each group's part of a batch: exemplary windows, and exploring walks (need data.worlds)
        steps=24,             # actions of a walk; exemplary windows are shorter
        horizon=6, anchors=4,  # how far ahead to predict, from how many steps of an episode (0: all)
        drop=0.2,             # share of percepts that are missing
        cells=1.0, variance=0.1,  # weights of likelihoods: of what percepts' cells show, of the next percept's embedding
    ))
    c.em = ConfigDict(dict(
        flow="stop",          # "stop": read off P(STOP); "head": a network for log F~
        subtb_lambda=0.9,
        window=0,             # successive edits of a trajectory that an E-step re-evaluates; 0: all (long plans: about 16)
        temperature=1.0, epsilon=0.02,
        posterior_subtb=0.05, prior_subtb=0.1,  # weights of the squared residuals (nats^2) beside likelihoods (nats)
        prior_nll=1.0, posterior_nll=1.0, explain=10.0,
        divergence=0.1, energy_decay=0.001, partial=0.5, rank=10.0,
        aim=1.0,              # weight of the cell that experts aim at beside their actions, in habits (with model.aim)
        decisions=4,          # of a trajectory's decisions, those that a likelihood step looks at
        final_share=0.6,      # of the texts that are read; the rest are drafts
        plain=0.4,            # of the cases of an actor below the first, those that begin without a given action
        gate_decay=0.95, gate_start=400.0, gate_end=60.0, gate_half_life=100.0,
        # of each group's part of a batch, the rows that each train step takes
        rows=dict(habit=224, told=32, untold=64, ranked=56, posterior=10, prior=14, sleep=12, m_step=12, contrast=16,
                  indicators=32, characteristics=32),
    ))
    c.optimizer = ConfigDict(dict(learning_rate=2e-3, jepa_scale=1.0, warmup=50, clip=1.0, b2=0.99))
    c.schedule = ConfigDict(dict(
        jepa_steps=400, ground_steps=400, em_steps=100,
        # after the JEPA's phase, in which habits learn at every step
        every=dict(habit=2, ground=1, e_step=1, sleep=4, m_step=1, contrast=1, indicators=2, characteristics=1,
                   belief=0),  # 0: never
    ))
    c.agent = ConfigDict(dict(
        plan_samples=2, choose="habit",  # plans sampled, and which is acted on: a draw by habit, or that of least "energy"
        go_on=True,           # whether, of several actors, those above the finest go on with what is left of their plans
        veto=0.05,            # a plan is left where the habit gives its next action less probability; 0: never
        tried=0.0,            # nats against an action for each time that it was taken before in the same place and percept
        stood=8.0,            # nats against an action for each time that things stood before as it would leave them
        returns=0.0,          # nats against a plan for each time that its first leg's end was come to before
        fill="",              # what is perceived where a view is missing: "" nothing, the "last" one, or by the "belief"
        temperature=0.9, habit_temperature=1.0, leave_distance=3, max_steps=64,
        indicator_samples=4,  # plans that indicators are read from, a decision
        # which indicator switches modes, in order of precedence: see agent.controller
        controller=("surprise > 2: habitual -> planning", "charge < 0: planning -> habitual"),
    ))
    c.agent.optimise = ConfigDict(dict(  # fields of agent.options.Optimise, explained there
        chains=2, moves=2, tau=1.0, patience=4, choose="habit", energy="plan", proposals="prior", schedule="halving", mix=0.1,
        characteristics=1.0, elaborate=1))  # of several actors, with model.characteristics
    c.evaluation = ConfigDict(dict(
        episodes=256, texts=300,
        pictures=3,           # episodes in the inspector in each of its modes, and texts
        walks=64,             # exploring walks of `walk_steps` actions that the world model is diagnosed on; 0: no diagnosis
        walk_steps=24,
        optimised=0,          # of the episodes, those that optimisation mode plays too (a move costs several plans)
    ))
    c.mesh = ConfigDict(dict(replica=1, data=1, fsdp=1, tensor=1))
    # fields of ShardingRules; "whole": this small model runs on any mesh
    c.sharding = ConfigDict(dict(uneven="whole", sampling="spread"))
    # a run stops where a JEPA level's std is below one bar and SIGReg above the other (a share of its value at collapse)
    c.alarm = ConfigDict(dict(std=0.2, sigreg=0.5, after=100))  # after: iterations in which it keeps quiet; std=0: never
    c.checkpoint_every = 200
    c.log_every = 20
    return c
