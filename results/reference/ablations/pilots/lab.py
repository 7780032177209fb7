"""Throw-away: objectives on mini, 50 pairs + unpaired."""
import os, sys, time, json, random, copy
os.environ.setdefault("OMP_NUM_THREADS","1"); os.environ["HF_HUB_OFFLINE"]="1"
sys.path.insert(0,str(__import__("pathlib").Path(__file__).resolve().parents[4]))
import torch, numpy as np
torch.set_num_threads(1)
from transformers import set_seed, get_scheduler
from peft import LoraConfig
from gantune.loading import load_model, load_tokenizer
from gantune.data import *
from gantune.data import batches, collate, end_token_id, pad_token_id, load_pairs, split_pairs, decontaminate, encode_pairs
from gantune.embedding_generator import stack_adapters, EmbeddingGeneratorConfig
from gantune.generators import build_generator
from gantune.policy import CausalLMPolicy
from gantune.seqgan import likelihood_loss
from gantune.tuning import TuningConfig
from gantune.generation import generate_answers
from gantune.evaluation import answer_losses
from gantune.metrics import *
from rouge_score.rouge_scorer import RougeScorer
SC=RougeScorer(["rouge1","rougeL"],use_stemmer=True)
def rl(a,b): return SC.score(a,b)["rougeL"].fmeasure
cfg=TuningConfig()
tmpl=cfg.prompt_template()
def setup(seed, ntrain=50, ntest=200, nun=300, dataset="mini-tofu", model="mini"):
    pairs=load_pairs(dataset)
    train,test=split_pairs(pairs,ntrain,400,seed)
    train,_=decontaminate(train,test)
    used={(p.question,p.answer) for p in train+test}
    rest=[p for p in pairs if (p.question,p.answer) not in used]
    random.Random(seed+1).shuffle(rest)
    uq=[p.question for p in rest[:nun]]; ua=[p.answer for p in rest[nun:2*nun]]
    return train,test[:ntest],uq,ua,rest[:nun]
class T:
    def __init__(s, seed, gen="lora", lr=8e-3, lr_emb=None, model="mini", rank=8, emb=None, targets=None):
        set_seed(seed)
        s.model=load_model(model) if not hasattr(T,"_m") else copy.deepcopy(T._m)
        s.tok=load_tokenizer(model)
        specs=[]
        for g in gen.split("+"):
            if g=="lora": specs.append(LoraConfig(task_type="CAUSAL_LM",r=rank,lora_alpha=2*rank,target_modules=targets))
            elif g=="embedding": specs.append(EmbeddingGeneratorConfig(**(emb or {})))
            else: specs+=build_generator(g)
        s.m=stack_adapters(s.model,specs)
        s.pad=pad_token_id(s.tok); s.policy=CausalLMPolicy(s.m,end_token_id(tmpl,s.tok),s.pad)
        named=[(n,p) for n,p in s.m.named_parameters() if p.requires_grad]
        e=[p for n,p in named if "lora" not in n]; l=[p for n,p in named if "lora" in n]
        groups=[{"params":g,"lr":r} for g,r in ((e,lr_emb or lr),(l,lr)) if g]
        s.params=e+l
        s.opt=torch.optim.AdamW(groups,weight_decay=0.0); s.n=sum(p.numel() for p in s.params)
    def enc(s,pairs): return encode_pairs(pairs,s.tok,tmpl,100,50,"truncate")[0]
    def encq(s,qs): return s.enc([Pair(q,"x") for q in qs])
    def nll(s,batch):
        noise=s.policy.draw_noise(len(batch)); return likelihood_loss(s.policy.score(batch,noise=noise),batch.answer_mask)
    def step(s,loss,sched=None):
        s.opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(s.params,1.0); s.opt.step()
        if sched: sched.step()
    def eval(s,test):
        a=generate_answers(s.m,s.tok,[p.question for p in test],cfg)
        r=[SC.score(p.answer,x) for p,x in zip(test,a)]
        L=answer_losses(s.m,s.tok,test,cfg)
        return dict(r1=float(np.mean([x["rouge1"].fmeasure for x in r])),rL=float(np.mean([x["rougeL"].fmeasure for x in r])),nll=sum(x for x,_ in L)/sum(n for _,n in L),distinct=len(set(a))/len(a),per=[x["rougeL"].fmeasure for x in r],answers=a)
def mle(t,train,epochs=30,seed=0,lrsched="linear",extra=None,hook=None):
    e=t.enc(train); n=epochs*-(-len(e)//8); s=get_scheduler(lrsched,t.opt,0,n); k=0
    for ep in range(1,epochs+1):
        for b in batches(e,8,t.pad,seed,ep):
            loss=t.nll(b)
            if extra: loss=loss+extra(k,n)
            t.step(loss,s); k+=1
            if hook: hook(k,n)
    return t
def save(name,seed,res,secs,extra=None):
    row=dict(name=name,seed=seed,**{k:v for k,v in res.items() if k not in("answers",)},secs=secs,**(extra or {}))
    open("rows.jsonl","a").write(json.dumps(row)+"\n")
    print(f"{name:40s} seed {seed} R1 {res['r1']:.3f} RL {res['rL']:.3f} NLL {res['nll']:.3f} distinct {res['distinct']:.2f}  {secs:.0f}s",flush=True)
def consensus_scores(groups):
    """list of lists of texts -> list of lists mean ROUGE-L to the others"""
    out=[]
    for g in groups:
        n=len(g); toks=g; M=np.zeros((n,n)); cache={}
        for i in range(n):
            for j in range(i):
                key=(g[i],g[j])
                if key not in cache: cache[key]=rl(g[j],g[i])
                M[i,j]=M[j,i]=cache[key]
        out.append((M.sum(1)/(n-1)).tolist())
    return out
class Unpaired:
    """extra loss on unpaired questions: best of k by a score, likelihood on it."""
    def __init__(s,t,uq,k=8,bs=8,start=0.3,every=1,weight=1.0,score="consensus",seed=0,temp=1.0,D=None,gate=0.0):
        s.t,s.k,s.bs,s.start,s.every,s.weight,s.temp=t,k,bs,start,every,weight,temp
        s.e=t.encq(uq); s.rng=random.Random(seed); s.pool=[]; s.score=score; s.stats=[]; s.D=D; s.gate=gate
    def batch(s):
        if len(s.pool)<s.bs: s.pool+=s.rng.sample(range(len(s.e)),len(s.e))
        rows=[s.pool.pop(0) for _ in range(s.bs)]
        return collate([s.e[r] for r in rows],s.t.pad)
    def __call__(s,k,n):
        if k<s.start*n or k%s.every: return 0.0
        b=s.batch(); ro=s.t.policy.rollout(b,max_new_tokens=50,temperature=s.temp,samples_per_prompt=s.k)
        texts=[x.strip() for x in s.t.tok.batch_decode([i[m.bool()] for i,m in zip(ro.answer_ids,ro.answer_mask)],skip_special_tokens=True)]
        groups=[texts[i:i+s.k] for i in range(0,len(texts),s.k)]
        c=consensus_scores(groups)
        c=torch.tensor(c)
        if s.score=="random": sc=torch.rand_like(c)
        elif s.score=="consensus": sc=c
        elif callable(s.score): sc=s.score(ro,groups,c)
        best=torch.arange(len(groups))*s.k+sc.argmax(1)
        w=torch.ones(len(groups))
        if s.gate: w=(c.max(1).values>=s.gate).float()
        sel=ro.select(best)
        lp=s.t.policy.score(sel,noise=sel.noise)
        m=sel.answer_mask*w[:,None]
        return s.weight*likelihood_loss(lp*w[:,None],m.clamp(min=0)) if w.sum() else 0.0
class LM:
    """likelihood of unpaired answers: as text after the first token, or as answers of an empty question"""
    def __init__(s,t,ua,how="text",bs=8,weight=1.0,seed=0,start=0.0):
        s.t,s.bs,s.weight,s.start=t,bs,weight,start; s.rng=random.Random(seed); s.pool=[]
        if how=="text":
            bos=t.tok.bos_token_id if t.tok.bos_token_id is not None else t.tok.eos_token_id
            e=t.enc([Pair("x",a) for a in ua]); s.e=[x._replace(prompt_ids=[bos]) if hasattr(x,"_replace") else __import__("dataclasses").replace(x,prompt_ids=[bos]) for x in e]
        else: s.e=t.enc([Pair(" ",a) for a in ua])
    def __call__(s,k,n):
        if k<s.start*n: return 0.0
        if len(s.pool)<s.bs: s.pool+=s.rng.sample(range(len(s.e)),len(s.e))
        b=collate([s.e[s.pool.pop(0)] for _ in range(s.bs)],s.t.pad)
        return s.weight*s.t.nll(b)
def both(*fs): return lambda k,n: sum(f(k,n) for f in fs)
