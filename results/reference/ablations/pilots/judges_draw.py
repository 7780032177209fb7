"""Samples for judges.py, drawn once a seed: python judges_draw.py SEED [FOLDS]

The generator (embedding + LoRA, likelihood, 50 pairs) answers test, unpaired and its own questions; cross-fitted ones
(trained on the other folds) answer the questions of the pairs that they were not trained on.
"""
from lab import *

OUT = "/tmp/judges"
seed, folds = int(sys.argv[1]), [int(n) for n in sys.argv[2:]] or [5]
tr, te, uq, ua, _ = setup(seed)
scale = dict(gen="embedding+lora", lr=8e-3)


def draw(t, questions, k):
    texts, own = [], []
    e = t.encq(questions)
    for i in range(0, len(e), 48):
        ro = t.policy.rollout(collate(e[i : i + 48], t.pad), max_new_tokens=50, samples_per_prompt=k)
        texts += [x.strip() for x in t.tok.batch_decode([a[m.bool()] for a, m in zip(ro.answer_ids, ro.answer_mask)], skip_special_tokens=True)]
        own += (ro.log_probs.sum(1) / ro.answer_mask.sum(1)).tolist()
    return [texts[i : i + k] for i in range(0, len(texts), k)], np.array(own).reshape(-1, k)


t0 = time.process_time()
t = T(seed, **scale)
mle(t, tr, seed=seed)
print("generator", time.process_time() - t0, flush=True)
d = dict(train=tr, test=te, uq=uq, ua=ua)
torch.manual_seed(seed)
d["test_texts"], d["test_own"] = draw(t, [p.question for p in te], 8)
d["self_texts"], _ = draw(t, [p.question for p in tr], 8)
d["unpaired_texts"], _ = draw(t, uq, 2)
d["greedy"] = generate_answers(t.m, t.tok, [p.question for p in te], cfg)
print("drawn", time.process_time() - t0, flush=True)
for n in folds:
    order = random.Random(seed).sample(range(len(tr)), len(tr))
    texts = [None] * len(tr)
    for f in range(n):
        out = order[f::n]
        g = T(seed, **scale)
        mle(g, [tr[i] for i in order if i not in out], seed=seed)
        got, _ = draw(g, [tr[i].question for i in out], 16)
        for i, x in zip(out, got):
            texts[i] = x
    d[f"fold{n}_texts"] = texts
    q = np.mean([rl(p.answer, x) for p, g in zip(tr, texts) for x in g])
    print("folds", n, "mean ROUGE-L of held-out samples %.3f" % q, time.process_time() - t0, flush=True)
d["quality"] = np.array([[rl(p.answer, x) for x in g] for p, g in zip(te, d["test_texts"])])
d["consensus"] = np.array(consensus_scores(d["test_texts"]))
json.dump({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in d.items()}, open(f"{OUT}/seed{seed}.json", "w"))
print("quality %.3f self %.3f greedy %.3f" % (d["quality"].mean(), np.mean([rl(p.answer, x) for p, g in zip(tr, d["self_texts"]) for x in g]), np.mean([rl(p.answer, x) for p, x in zip(te, d["greedy"])])), time.process_time() - t0)
