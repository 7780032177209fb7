"""Discriminators as heads on cached states of the frozen model, by negatives and loss: python judges.py SEED ROW...

Without rows it prints what they are to be compared with; with `serve` it runs the Python files of /tmp/judges/todo, such as
`exec(open("judges_towers.py").read()); run_towers()`. Samples: judges_draw.py.
"""
from lab import *
import re
import torch.nn as nn, torch.nn.functional as F
from benchmarks.discriminators import auc, ranks, rank_correlation, selected

OUT = "/tmp/judges"
seed = int(sys.argv[1])
d = json.load(open(f"{OUT}/seed{seed}.json"))
tr, te = [[Pair(*p) for p in d[k]] for k in ("train", "test")]
Q, C, G = (np.array(d[k]) for k in ("quality", "consensus", "test_own"))
K = Q.shape[1]
z = lambda x: (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-9)
boot = np.random.default_rng(0).integers(0, len(Q), (2000, len(Q)))


def pick(x):
    return Q[np.arange(len(Q)), x.argmax(1)]


def report(name, x, extra=""):
    """Rank correlation, best-of-8, and with consensus: difference of best-of-8 to that of consensus, bootstrap SE."""
    p = 1 / (1 + np.exp(-x)) if x.min() < 0 or x.max() > 1 else x
    row = dict(name=name, seed=seed, rho=rank_correlation(x, Q), best=pick(x).mean(), random=Q.mean(), consensus=pick(C).mean())
    for key, y in (("product", C * p), ("zsum", z(C) + z(x)), ("zhalf", z(C) + 0.5 * z(x))):
        diff = pick(y) - pick(C)
        row[key], row[key + "_se"] = diff.mean(), diff[boot].mean(1).std()
    row.update(extra or {})
    open("judges.jsonl", "a").write(json.dumps(row) + "\n")
    print(f"{name:42s} " + " ".join(f"{k} {v:.3f}" for k, v in row.items() if isinstance(v, float) and k not in ("random", "consensus")), flush=True)
    return row


def name_of(p):
    c = [x for x in re.findall(r"[A-Z][\w'-]+ [A-Z][\w'-]+", p.answer) if x in p.question]
    return c[0] if c else None


def renamed(answer, old, new):
    return answer.replace(old, new) if old and new else answer


def corrupted(p, rng, others):
    """A true answer with one thing wrong: another's name, another date or number or capitalised word, shuffled words."""
    kind = rng.randrange(3)
    if kind == 0:
        n, m = name_of(p), name_of(rng.choice(others))
        if n and m and n != m:
            return p.answer.replace(n, m)
    words = p.answer.split()
    if kind == 1:
        name = (name_of(p) or "").split()
        own = [i for i, w in enumerate(words) if i and (w[0].isupper() or w[0].isdigit()) and w.strip(".,'s") not in name]
        if own:
            i = rng.choice(own)
            pool = [w for o in others for w in o.answer.split()[1:] if w[0].isdigit() == words[i][0].isdigit() and (w[0].isupper() or w[0].isdigit()) and w != words[i]]
            if pool:
                return " ".join(words[:i] + [rng.choice(pool)] + words[i + 1 :])
    i = rng.randrange(max(1, len(words) - 3))
    part = words[i : i + 5]
    rng.shuffle(part)
    return " ".join(words[:i] + part + words[i + 5 :])


rng = random.Random(seed)
tn = [name_of(p) for p in tr]
differ = lambda p, texts: [x for x in texts if x != p.answer] or list(texts)
NEG = {  # one list of wrong answers a question
    "self": [g for g in d["self_texts"]],
    "mismatched": [[o.answer for o in tr if o is not p] for p in tr],
    "mismatched-name": [[renamed(o.answer, m, n) for o, m in zip(tr, tn) if o is not p] for p, n in zip(tr, tn)],
    "corrupted": [[corrupted(p, rng, [o for o in tr if o is not p]) for _ in range(8)] for p in tr],
}
for k in d:
    if k.startswith("fold"):
        NEG[k.split("_")[0]] = [differ(p, g) for p, g in zip(tr, d[k])]
NEG["mismatched-name"] = [rng.sample(g, 8) for g in NEG["mismatched-name"]]

if __name__ == "__main__":
    base = load_model("mini").eval()
    tok = load_tokenizer("mini")
    pad, width = pad_token_id(tok), base.config.hidden_size
    cache_file = f"{OUT}/features{seed}.pt"
    cache = torch.load(cache_file) if os.path.exists(cache_file) else {}
    size = len(cache)

    @torch.no_grad()
    def features(rows):
        """Normalised states of every layer, of the last answer token and their mean over the answer; [rows, 2 F]."""
        todo = sorted({tuple(r) for r in rows} - cache.keys(), key=lambda r: len(r[0]) + len(r[1]))
        for i in range(0, len(todo), 64):
            part = todo[i : i + 64]
            b = collate(encode_pairs([Pair(*r) for r in part], tok, tmpl, 100, 50, "truncate")[0], pad)
            o = base.base_model(input_ids=b.input_ids(), attention_mask=b.attention_mask(), position_ids=b.position_ids(), output_hidden_states=True, use_cache=False)
            s = torch.cat([h[:, b.prompt_ids.shape[1] :] for h in o.hidden_states], 2)
            s = F.layer_norm(s, s.shape[-1:]) * b.answer_mask[..., None]
            n = b.answer_mask.sum(1)
            f = torch.cat([s[torch.arange(len(part)), n - 1], s.sum(1) / n[:, None]], 1).half()
            order = {p.question + "\0" + p.answer: j for j, p in enumerate(b.pairs)}
            for r in part:
                cache[r] = f[order[r[0] + "\0" + r[1]]].clone()
        return torch.stack([cache[tuple(r)] for r in rows]).float()

    @torch.no_grad()
    def fluency(texts):
        """Mean log-prob of each text under the untuned model, after the first token."""
        todo, out = sorted(set(texts), key=len), {}
        for i in range(0, len(todo), 64):
            ids = [(tok(x, add_special_tokens=False)["input_ids"][:60] or [tok.eos_token_id]) for x in todo[i : i + 64]]
            n = max(map(len, ids))
            I = torch.full((len(ids), n + 1), pad); A = torch.zeros_like(I)
            for r, x in enumerate(ids):
                I[r, 0] = tok.bos_token_id; I[r, 1 : len(x) + 1] = torch.tensor(x); A[r, : len(x) + 1] = 1
            lp = base(input_ids=I, attention_mask=A).logits[:, :-1].log_softmax(-1).gather(2, I[:, 1:, None])[..., 0]
            m = A[:, 1:]
            out.update(zip(todo[i : i + 64], ((lp * m).sum(1) / m.sum(1)).tolist()))
        return [out[x] for x in texts]

    rows = [(p.question, x) for p, g in zip(te, d["test_texts"]) for x in g]
    blind = lambda r: [("", a) for _, a in r]
    true = [tuple(p) for p in te]
    wrong = [(p.question, o.answer) for p, o in zip(te, te[1:] + te[:1])]
    ten = [name_of(p) for p in te]
    wrong_name = [(p.question, renamed(o.answer, m, n)) for p, n, o, m in zip(te, ten, te[1:] + te[:1], ten[1:] + ten[:1])]

    class Head(nn.Module):
        def __init__(s, n, spectral=False):
            super().__init__()
            sn = nn.utils.parametrizations.spectral_norm if spectral else lambda x: x
            s.w, s.b = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))
            s.net = nn.Sequential(nn.Dropout(0.2), sn(nn.Linear(n, 64)), nn.GELU(), nn.Dropout(0.2), sn(nn.Linear(64, 1)))

        def forward(s, x):
            return s.net(x * s.w + s.b).squeeze(-1)

    def run(spec, steps=200):
        """SPEC = NEGATIVES[+NEGATIVES]:LOSS[:option], negatives as in NEG, or unpaired; loss bce, bt or rank."""
        negatives, loss, *options = spec.split(":")
        r = random.Random(seed)
        torch.manual_seed(seed)
        shown = blind if negatives == "unpaired" else list
        if negatives == "unpaired":
            pos = [("", a) for a in d["ua"]]
            sets = [[[("", x) for x in g] for g in d["unpaired_texts"]]]
        else:
            pos = [tuple(p) for p in tr]
            sets = [[[(p.question, x) for x in g] for p, g in zip(tr, NEG[n])] for n in negatives.split("+")]
        fpos = features(pos)
        fneg = [[features(g) for g in s] for s in sets]
        if loss == "rank":
            worth = [[torch.tensor([rl(p.answer, x[1]) for x in g]) for p, g in zip(tr, s)] for s in sets]
        head = Head(fpos.shape[1], "spectral" in options)
        opt = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
        label = 1.0 if "hard" in options else 0.9
        for _ in range(steps):
            rows_ = r.sample(range(len(pos)), 8)
            total = 0.0
            for s, f in enumerate(fneg):
                which = rows_ if negatives != "unpaired" else r.sample(range(len(f)), 8)
                drawn = [[r.randrange(len(f[i])) for _ in range(4)] for i in which]
                neg = torch.stack([f[i][j] for i, j in zip(which, drawn)])
                a, b = head(fpos[rows_]), head(neg)
                if loss == "bce":
                    total = total + F.binary_cross_entropy_with_logits(a, torch.full_like(a, label)) + F.binary_cross_entropy_with_logits(b, torch.zeros_like(b))
                else:
                    total = total - F.logsigmoid(a[:, None] - b).mean()
                if loss == "rank":  # the better of two samples, by ROUGE-L to the true answer
                    w = torch.stack([worth[s][i][j] for i, j in zip(which, drawn)])
                    gap = (w[:, :, None] - w[:, None]).clamp(min=0)
                    total = total - (gap * F.logsigmoid(b[:, :, None] - b[:, None])).sum() / gap.sum().clamp(min=1e-6)
            opt.zero_grad(); total.backward(); nn.utils.clip_grad_norm_(head.parameters(), 1.0); opt.step()
        head.eval()
        with torch.no_grad():
            score = lambda r: head(features(shown(r))).double().numpy()
            x, t, w, wn = score(rows), score(true), score(wrong), score(wrong_name)
        extra = dict(auc_real=auc(t.tolist(), x.tolist()), auc_question=auc(t.tolist(), w.tolist()), auc_relation=auc(t.tolist(), wn.tolist()))
        return report("frozen-lm head " + spec, x.reshape(-1, K), extra)

    t0 = time.process_time()
    if len(sys.argv) == 2:
        print("unique samples", len(set(rows)), "of", len(rows))
        r = np.random.default_rng(seed)
        report("random", r.random(Q.shape)); report("consensus", C); report("own mean log-prob", np.exp(G)); report("oracle", Q)
        B = np.array(fluency([x for _, x in rows])).reshape(-1, K)
        report("fluency (untuned model, mean log-prob)", np.exp(B)); report("own - fluency (pointwise information)", z(G) - z(B))
        from benchmarks import mini_corpus as mc, mini_words as mw
        people = mc.authors()
        asked = iter(mc.questions(people))
        where = {}
        for person in people:
            for rel in mw.RELATIONS:
                if mw.RELATIONS[rel].questions:
                    where[next(asked)["question"]] = (person, rel)
        rel_of, fit = {}, []
        for q, x in rows:
            person, rel = where[q]
            if (q, x) not in rel_of:
                s = {n: rl(mc.fill(v.states[0], person.facts), x) for n, v in mw.RELATIONS.items()}
                rel_of[q, x] = max(s, key=s.get)
            fit.append(float(rel_of[q, x] == rel))
        fit = np.array(fit).reshape(-1, K)
        print("samples of the relation asked for: %.3f; ROUGE-L with it %.3f, without %.3f; questions where the consensus pick has it %.3f, where some sample has %.3f" % (fit.mean(), Q[fit == 1].mean(), Q[fit == 0].mean(), fit[np.arange(len(C)), C.argmax(1)].mean(), fit.max(1).mean()))
        report("relation oracle (0 or 1), ties by consensus", fit + 0.001 * C)
    for spec in sys.argv[2:] if sys.argv[2:] != ["serve"] else ():
        run(spec)
        if len(cache) > size:
            torch.save(cache, cache_file); size = len(cache)
    while sys.argv[2:] == ["serve"]:  # one process for all: importing costs more than a head
        for file in sorted(os.listdir(f"{OUT}/todo")):
            t0 = time.process_time()
            try:
                exec(open(f"{OUT}/todo/{file}").read())
            except Exception as error:
                print(file, repr(error), flush=True)
            os.rename(f"{OUT}/todo/{file}", f"{OUT}/done_{file}")
            print(file, "CPU s %.1f" % (time.process_time() - t0), flush=True)
        time.sleep(1)
    print("CPU s", time.process_time() - t0)
