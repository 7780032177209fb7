from lab import *
from scipy.stats import spearmanr
seed=int(sys.argv[1]); gen=sys.argv[2] if len(sys.argv)>2 else "embedding+lora"; ds=sys.argv[3] if len(sys.argv)>3 else "mini-tofu"; mdl=sys.argv[4] if len(sys.argv)>4 else "mini"
lr=8e-3
tr,te,uq,ua,up=setup(seed,dataset=ds)
t=T(seed,gen=gen,lr=lr,model=mdl); mle(t,tr,seed=seed)
K=8; Q=te[:120]
e=t.enc(Q); texts=[]; gl=[]
ros=[]
for i in range(0,len(e),24):
    b=collate(e[i:i+24],t.pad); ro=t.policy.rollout(b,max_new_tokens=50,temperature=1.0,samples_per_prompt=K)
    ros.append(ro); texts+=[x.strip() for x in t.tok.batch_decode([a[m.bool()] for a,m in zip(ro.answer_ids,ro.answer_mask)],skip_special_tokens=True)]
    gl+=[ (l.sum()/m.sum()).item() for l,m in zip(ro.log_probs,ro.answer_mask)]
groups=[texts[i:i+K] for i in range(0,len(texts),K)]
R=np.array([[rl(p.answer,x) for x in g] for p,g in zip(Q,groups)])
C=np.array(consensus_scores(groups))
bos=t.tok.bos_token_id
def base_lp(texts, prefix=None):
    out=[]
    with torch.no_grad(), t.m.disable_adapter():
        for i in range(0,len(texts),64):
            ids=[t.tok(" "+x if False else x,add_special_tokens=False)["input_ids"][:60] or [bos] for x in texts[i:i+64]]
            n=max(map(len,ids)); I=torch.full((len(ids),n+1),t.pad); A=torch.zeros_like(I)
            for r,x in enumerate(ids): I[r,0]=bos; I[r,1:len(x)+1]=torch.tensor(x); A[r,:len(x)+1]=1
            lo=t.m(input_ids=I,attention_mask=A).logits[:,:-1].log_softmax(-1).gather(2,I[:,1:,None])[...,0]
            m=A[:,1:]; out+= (lo*m).sum(1).tolist(); 
            global LEN
    return np.array(out)
S=base_lp(texts).reshape(-1,K); N=np.array([len(t.tok(x)["input_ids"])+1 for x in texts]).reshape(-1,K)
G=np.array(gl).reshape(-1,K)
Mn=S/N
# base lp of question+answer concatenated minus question? 
def rep(name,X):
    rho=np.nanmean([spearmanr(a,b).statistic for a,b in zip(X,R) if np.std(a)>0 and np.std(b)>0])
    best=R[np.arange(len(R)),X.argmax(1)].mean()
    print(f"{name:30s} rho {rho:.3f} best-of-8 {best:.3f}")
print("random",R.mean(),"oracle",R.max(1).mean(), "spread", R.std(1).mean())
z=lambda X:(X-X.mean(1,keepdims=True))/(X.std(1,keepdims=True)+1e-9)
rep("consensus",C); rep("own mean logp",G); rep("base text sum",S); rep("base text mean",Mn); rep("consensus+base mean",z(C)+z(Mn)); rep("consensus+own",z(C)+z(G)); rep("all3",z(C)+z(G)+z(Mn)); rep("base - own",z(Mn)-z(G))
a=t.eval(te[:120]); print("greedy",a["rL"], "greedy base mean", )
