"""Would it help to answer each relation as often as the true answers do? python marginals.py SEED

What a discriminator that sees answers without questions can teach at best: how often each relation should be told.
Here that is known exactly, as is the relation of each sample. Samples: judges_draw.py.
"""
from lab import *
from collections import Counter
from benchmarks import mini_corpus as mc, mini_words as mw

seed = int(sys.argv[1])
d = json.load(open(f"/tmp/judges/seed{seed}.json"))
people = mc.authors()
asked, where = iter(mc.questions(people)), {}
for person in people:
    for rel in mw.RELATIONS:
        if mw.RELATIONS[rel].questions:
            where[next(asked)["question"]] = (person, rel)
te = [Pair(*p) for p in d["test"]]
Q, C = np.array(d["quality"]), np.array(d["consensus"])
names = list(mw.RELATIONS)


def relation(question, text):
    """The relation whose statement about this person the text is nearest to."""
    facts = where[question][0].facts
    return max(names, key=lambda n: rl(mc.fill(mw.RELATIONS[n].states[0], facts), text))


R = [[relation(p.question, x) for x in g] for p, g in zip(te, d["test_texts"])]
told = Counter(relation(q, x) for q, g in zip(d["uq"], d["unpaired_texts"]) for x in g)
true, total = Counter(where[q][1] for q in d["uq"]), sum(told.values())
print("asked for, told:", {n: (round(true[n] / len(d["uq"]), 3), round(told[n] / total, 3)) for n in names})
pick = lambda x: Q[np.arange(len(Q)), x.argmax(1)].mean()
print("consensus %.3f" % pick(C))
for power in (0.25, 0.5, 1.0):
    w = np.array([[power * np.log((true[r] / len(d["uq"]) + 0.005) / (told[r] / total + 0.005)) for r in g] for g in R])
    print("times (asked for / told) ^ %.2f: %.3f" % (power, pick(np.log(C + 0.05) + w)))
votes = np.array([[np.mean([r == n for r in g]) for n in names] for g in R])
share = np.array([np.mean([where[p.question][1] == n for p in te]) for n in names]) + 1e-4
P = votes + 1e-3
for _ in range(50):  # Sinkhorn: as often as asked for over all questions, one relation a question
    P = P / P.sum(0) * share * len(te)
    P = P / P.sum(1, keepdims=True)
for name, p in (("votes of relations", votes), ("the same, matched to how often each is asked for", P)):
    print(name, "%.3f" % pick(np.array([[p[i, names.index(r)] for r in g] for i, g in enumerate(R)]) + 0.001 * C))
