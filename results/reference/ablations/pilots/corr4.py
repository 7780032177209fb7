exec(open("corr.py").read().replace('a=t.eval(te[:120])','a=dict(rL=0)#'))
import re
def name_of(p):
    c=re.findall(r"[A-Z][\w'-]+ [A-Z][\w'-]+",p.answer); c=[x for x in c if x in p.question]
    return c[0] if c else None
tn=[name_of(p) for p in tr]; print("names found",sum(x is not None for x in tn))
def feats(txts, prompt, adapter=False):
    out=[]
    import contextlib
    with torch.no_grad(), (contextlib.nullcontext() if adapter else t.m.disable_adapter()):
        for i in range(0,len(txts),64):
            ids=[([bos]+t.tok(x,add_special_tokens=False)["input_ids"])[:80] for x in txts[i:i+64]]
            n=max(map(len,ids)); I=torch.full((len(ids),n),t.pad); A=torch.zeros_like(I)
            for r,x in enumerate(ids): I[r,:len(x)]=torch.tensor(x); A[r,:len(x)]=1
            o=t.m(input_ids=I,attention_mask=A,output_hidden_states=True).hidden_states
            m=A.clone(); m[:,0]=0; m=m[...,None].float()
            H=[(h*m).sum(1)/m.sum(1) for h in o]
            out.append(torch.cat(H,1))
    return torch.cat(out)
def strip(txt,name): return txt.replace(name,"X") if name else txt
import torch.nn as nn, torch.nn.functional as F
def run(adapter, mask_names, steps=400, dim=64):
    q=[p.question for p in tr]; a=[p.answer for p in tr]
    if mask_names: qq=[strip(x,n) for x,n in zip(q,tn)]; aa=[strip(x,n) for x,n in zip(a,tn)]; pairs=[(i,j) for i in range(len(tr)) for j in range(len(tr))]
    else: qq,aa=q,a
    fq=feats(qq,1,adapter)
    if mask_names: fa=feats(aa,0,adapter)
    mu,sd=fq.mean(0),fq.std(0)+1e-4; mua,sda=fa.mean(0),fa.std(0)+1e-4
    torch.manual_seed(0)
    P=nn.Linear(fq.shape[1],dim); Qm=nn.Linear(fq.shape[1],dim); opt=torch.optim.AdamW([*P.parameters(),*Qm.parameters()],lr=1e-3,weight_decay=0.1)
    zq,za=(fq-mu)/sd,(fa-mua)/sda
    # labels: same relation unknown; identity is positive. soft: answers with same template also positive? contrastive InfoNCE over 50
    for s in range(steps):
        dz=F.dropout(zq,.3); da=F.dropout(za,.3)
        u=F.normalize(P(dz),dim=1); v=F.normalize(Qm(da),dim=1)
        S=u@v.T*10
        loss=F.cross_entropy(S,torch.arange(len(S)))+F.cross_entropy(S.T,torch.arange(len(S)))
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad():
        Qn=[name_of(p) for p in Q]
        tq=feats([strip(p.question,n) for p,n in zip(Q,Qn)],1,adapter)
        ta=feats([strip(x,n) for n,g in zip(Qn,groups) for x in g],0,adapter)
        u=F.normalize(P((tq-mu)/sd),dim=1); v=F.normalize(Qm((ta-mua)/sda),dim=1).view(len(Q),K,-1)
        X=(u[:,None]*v).sum(2).numpy()
        tt=feats([strip(p.answer,n) for p,n in zip(Q,Qn)],0,adapter); vt=F.normalize(Qm((tt-mua)/sda),dim=1)
        Sx=(u@vt.T); print("retrieval: true above random other", (Sx.diag()[:,None]>Sx).float().mean().item())
    rep(f"contrastive adapter={adapter}",X); rep(" + consensus",z(X)+z(C)); rep(" + 2 consensus",z(X)+2*z(C)); rep("+own+cons",z(X)+z(C)+z(G)); return X
X1=run(False,True); X2=run(True,True); rep("both + cons",z(X1)+z(X2)+z(C))
