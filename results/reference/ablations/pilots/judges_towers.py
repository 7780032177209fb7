"""Run inside judges.py: question and answer read apart by the frozen model, their names hidden; the score is a cosine."""
STATES = globals().get("STATES", {})


@torch.no_grad()
def states(texts):
    """Mean hidden states of every layer of each text by itself, [texts, F]."""
    todo = sorted(set(texts) - STATES.keys(), key=len)
    for i in range(0, len(todo), 64):
        ids = [([tok.bos_token_id] + tok(x, add_special_tokens=False)["input_ids"])[:80] for x in todo[i : i + 64]]
        n = max(map(len, ids))
        I = torch.full((len(ids), n), pad); A = torch.zeros_like(I)
        for r, x in enumerate(ids):
            I[r, : len(x)] = torch.tensor(x); A[r, : len(x)] = 1
        m = A.clone(); m[:, 0] = 0; m = m[..., None].float()
        h = base.base_model(input_ids=I, attention_mask=A, output_hidden_states=True, use_cache=False).hidden_states
        f = torch.cat([(x * m).sum(1) / m.sum(1).clamp(min=1) for x in h], 1)
        STATES.update(zip(todo[i : i + 64], f))
    return torch.stack([STATES[x] for x in texts])


def question_name(q, answers):
    """The name in a question, known by its being in some answer of the model; the true answer is not looked at."""
    c = [x for x in re.findall(r"[A-Z][\w'-]+ [A-Z][\w'-]+", q) if any(x in a for a in answers)]
    return c[0] if c else None


hide = lambda text, name: text.replace(name, "X") if name else text
test_names = [question_name(p.question, g) for p, g in zip(te, d["test_texts"])]


def run_towers(negatives="", steps=400, dim=64, temperature=0.1, seeds=3, further=(), repeat=1, note=""):
    """In-batch negatives among the 50 pairs, names hidden, and 4 more a question from NEG[negatives] if given.

    `further` pairs are true ones, which the setting does not allow: they show what more pairs would be worth; or the
    generator's own answers to unpaired questions, from which the towers learn what it answers to *such* questions.
    """
    pairs = [*tr * repeat, *further]
    names = [name_of(p) for p in pairs]
    fq = states([hide(p.question, n) for p, n in zip(pairs, names)])
    fa = states([hide(p.answer, n) for p, n in zip(pairs, names)])
    more = [states([hide(x, n) for x in g]) for g, n in zip(NEG[negatives], tn)] if negatives else None
    tq = states([hide(p.question, n) for p, n in zip(te, test_names)])
    ta = states([hide(x, n) for g, n in zip(d["test_texts"], test_names) for x in g])
    tt = states([hide(p.answer, n) for p, n in zip(te, test_names)])
    zq = lambda x: (x - fq.mean(0)) / (fq.std(0) + 1e-4)
    za = lambda x: (x - fa.mean(0)) / (fa.std(0) + 1e-4)
    scores, relation, real = [], [], []
    for s in range(seeds):
        torch.manual_seed(s)
        r = random.Random(s)
        b = slice(None)
        P, A = nn.Linear(fq.shape[1], dim), nn.Linear(fq.shape[1], dim)
        opt = torch.optim.AdamW([*P.parameters(), *A.parameters()], lr=1e-3, weight_decay=0.1)
        for _ in range(steps):
            if further:
                b = r.sample(range(len(pairs)), 50)
            u = F.normalize(P(F.dropout(zq(fq[b]), 0.3)), dim=1)
            v = F.normalize(A(F.dropout(za(fa[b]), 0.3)), dim=1)
            S = u @ v.T / temperature
            y = torch.arange(len(S))
            rows_ = S
            if more:
                x = torch.stack([m[[r.randrange(len(m)) for _ in range(4)]] for m in more])
                w = F.normalize(A(F.dropout(za(x), 0.3)), dim=2)
                rows_ = torch.cat([S, (u[:, None] * w).sum(2) / temperature], 1)
            loss = F.cross_entropy(rows_, y) + F.cross_entropy(S.T, y)
            opt.zero_grad(); loss.backward(); opt.step()
        with torch.no_grad():
            u = F.normalize(P(zq(tq)), dim=1)
            v = F.normalize(A(za(ta)), dim=1).view(len(te), K, -1)
            S = u @ F.normalize(A(za(tt)), dim=1).T
            scores.append((u[:, None] * v).sum(2).double().numpy())
            relation.append((S.diag()[:, None] > S).float().mean().item())
            real.append(auc(S.diag().tolist(), scores[-1].flatten().tolist()))
    one = scores[0]
    label = (negatives or "in batch") + (f", {len(pairs)} pairs {note}" if further else "")
    report("two towers " + label, one, dict(auc_relation=relation[0], auc_real=real[0]))
    x = sum(z(s) for s in scores)
    SCORES["towers " + label] = x
    report(f"two towers, {seeds} of them, " + label, x, dict(auc_relation=float(np.mean(relation)), auc_real=float(np.mean(real))))
    return x


SCORES = globals().get("SCORES", {})


def agreement():
    """ROUGE-L between the samples of each question, [questions, K, K], 0 on the diagonal."""
    out, seen = np.zeros((len(te), K, K)), {}
    for n, g in enumerate(d["test_texts"]):
        for i in range(K):
            for j in range(i):
                key = g[i], g[j]
                if key not in seen:
                    seen[key] = 1.0 if g[i] == g[j] else rl(g[j], g[i])
                out[n, i, j] = out[n, j, i] = seen[key]
    return out


def votes(name, x):
    """Consensus in which each sample's vote counts as much as the discriminator believes it: exp(z / temperature)."""
    global AGREE
    AGREE = globals().get("AGREE")
    if AGREE is None:
        AGREE = agreement()
    for temperature in (2.0, 1.0, 0.5):
        w = np.exp(z(x) / temperature)
        y = (AGREE * w[:, None, :]).sum(2)
        for what, s in (("votes", y), ("votes and candidate", y * w)):
            diff = pick(s) - pick(C)
            print(f"{name} {what} T={temperature}: rho {rank_correlation(s, Q):.3f} best {pick(s).mean():.3f} difference {diff.mean():+.3f} se {diff[boot].mean(1).std():.3f}", flush=True)
