"""Run inside judges.py: a discriminator that is a LoRA adapter of the frozen model, with a head or by its likelihood."""


def run_lm(spec, steps=100, lr=2e-3):
    """SPEC = NEGATIVES[+NEGATIVES]:bce or bt:head or lik[:alone]; lik scores by mean log-prob, alone without negatives."""
    negatives, loss, kind, *options = spec.split(":")
    start = time.process_time()
    r = random.Random(seed)
    t = T(seed, gen="lora", lr=lr)
    blind_ = negatives == "unpaired"
    pos = [Pair("", a) for a in d["ua"]] if blind_ else tr
    sets = [d["unpaired_texts"]] if blind_ else [NEG[n] for n in negatives.split("+")]
    head = nn.Linear(2 * width, 1)
    nn.init.zeros_(head.bias)
    opt = torch.optim.AdamW([{"params": t.params}, {"params": head.parameters()}], lr=lr, weight_decay=0.0)
    core = t.m.base_model.model

    def score(pairs):
        b = collate(t.enc([Pair(q, a or ".") for q, a in pairs]), t.pad)
        if kind == "lik":
            lp = t.policy.score(b)
            return lp.sum(1) / b.answer_mask.sum(1)
        h = core.transformer(input_ids=b.input_ids(), attention_mask=b.attention_mask(), position_ids=b.position_ids(), use_cache=False)[0]
        h = h[:, b.prompt_ids.shape[1] :]
        n = b.answer_mask.sum(1)
        return head(torch.cat([h[torch.arange(len(h)), n - 1], (h * b.answer_mask[..., None]).sum(1) / n[:, None]], 1)).squeeze(1)

    t.m.eval()
    for step in range(steps):
        for group in opt.param_groups:
            group["lr"] = lr * (1 - step / steps)
        which = r.sample(range(len(pos)), 8)
        rows_ = [pos[i] for i in which]
        if "alone" not in options:
            for s in sets:
                rows_ += [(("" if blind_ else pos[i].question), r.choice(s[r.randrange(len(s)) if blind_ else i])) for i in which]
        x = score(rows_)
        a, b = x[:8], x[8:].view(-1, 8)
        if kind == "lik":
            total = -a.mean()
            if "alone" not in options:
                total = total - F.logsigmoid(5 * (a - b)).mean()
        elif loss == "bt":
            total = -F.logsigmoid(a - b).mean()
        else:
            total = F.binary_cross_entropy_with_logits(a, torch.full_like(a, 0.9)) + F.binary_cross_entropy_with_logits(b, torch.zeros_like(b))
        opt.zero_grad(); total.backward(); nn.utils.clip_grad_norm_([*t.params, *head.parameters()], 1.0); opt.step()
    trained = time.process_time() - start
    every = [*rows, *true, *wrong_name]
    every = [("", a) for _, a in every] if blind_ else every
    todo, out = sorted(set(every), key=lambda x: len(x[0]) + len(x[1])), {}
    with torch.no_grad():
        for i in range(0, len(todo), 64):
            part = todo[i : i + 64]
            b = collate(t.enc([Pair(q, a or ".") for q, a in part]), t.pad)
            if i == 0:
                assert [p.answer for p in b.pairs] == [a or "." for _, a in part]
            out.update(zip(part, score(part).tolist()))
    x = np.array([out[e] for e in every])
    n = len(rows)
    extra = dict(auc_real=auc(x[n : n + len(true)].tolist(), x[:n].tolist()), auc_relation=auc(x[n : n + len(true)].tolist(), x[n + len(true) :].tolist()), cpu_train=trained)
    x = x[:n].reshape(-1, K)
    SCORES[spec] = x
    return report("lm-adapter " + spec, np.exp(x) if kind == "lik" else x, extra)


SCORES = globals().get("SCORES", {})
