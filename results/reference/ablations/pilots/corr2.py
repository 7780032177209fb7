exec(open("corr.py").read().replace('a=t.eval(te[:120])','a=dict(rL=0)#'))
# features of texts under the base, as plain text; and of (question, answer) under the base / under the tuned model
def feats(qs, texts, adapter=False):
    out=[]; import contextlib
    with torch.no_grad(), (contextlib.nullcontext() if adapter else t.m.disable_adapter()):
        for i in range(0,len(texts),64):
            pre=[ (t.tok(tmpl.prompt(q) if hasattr(tmpl,'prompt') else q,add_special_tokens=False)["input_ids"] if q else [bos]) for q in qs[i:i+64]]
            ans=[t.tok(x,add_special_tokens=False)["input_ids"][:50] or [bos] for x in texts[i:i+64]]
            n=max(len(p)+len(a) for p,a in zip(pre,ans)); I=torch.full((len(ans),n),t.pad); A=torch.zeros_like(I); M=torch.zeros_like(I)
            for r,(p,a) in enumerate(zip(pre,ans)):
                I[r,:len(p)+len(a)]=torch.tensor(p+a); A[r,:len(p)+len(a)]=1; M[r,len(p):len(p)+len(a)]=1
            o=t.m(input_ids=I,attention_mask=A,output_hidden_states=True)
            lp=o.logits[:,:-1].log_softmax(-1).gather(2,I[:,1:,None])[...,0]; m=M[:,1:].float()
            mean=(lp*m).sum(1)/m.sum(1); mn=lp.masked_fill(m==0,0).min(1).values; low=torch.stack([lp.masked_fill(m==0,0).sort(1).values[:,:4].mean(1)],1)
            H=torch.cat([ (h*M[...,None]).sum(1)/M.sum(1,keepdim=True) for h in o.hidden_states[1:]],1)
            last=torch.stack([ o.hidden_states[-1][r,len(p)+len(a)-1] for r,(p,a) in enumerate(zip(pre,ans))])
            out.append(torch.cat([mean[:,None],mn[:,None],low,(lp*m).sum(1)[:,None],m.sum(1)[:,None],H,last],1))
    return torch.cat(out).numpy()
def roll(qs,k=2):
    e=t.encq(qs); o=[]
    for i in range(0,len(e),32):
        b=collate(e[i:i+32],t.pad); ro=t.policy.rollout(b,max_new_tokens=50,temperature=1.0,samples_per_prompt=k)
        o+=[x.strip() for x in t.tok.batch_decode([a[m.bool()] for a,m in zip(ro.answer_ids,ro.answer_mask)],skip_special_tokens=True)]
    return o
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.pipeline import make_pipeline
from sklearn.metrics import roc_auc_score
fake=roll(uq,2); fq=[q for q in uq for _ in range(2)]
tq=[p.question for p in Q for _ in range(K)]
Xr=feats([""]*len(ua),ua); Xf=feats([""]*len(fake),fake); Xt=feats([""]*len(texts),texts)
y=np.r_[np.ones(len(Xr)),np.zeros(len(Xf))]; X=np.r_[Xr,Xf]
Xtrue=feats([""]*len(Q),[p.answer for p in Q])
for nm,cols in [("logp feats",slice(0,5)),("all hidden",slice(0,None))]:
    for Creg in (1,.01,.001):
        d=make_pipeline(StandardScaler(),LogisticRegression(C=Creg,max_iter=300,class_weight="balanced")).fit(X[:,cols],y)
        s=d.decision_function(Xt[:,cols]).reshape(-1,K)
        auc=roc_auc_score(np.r_[np.ones(len(Xtrue)),np.zeros(s.size)],np.r_[d.decision_function(Xtrue[:,cols]),s.ravel()])
        print(nm,Creg,"held-out AUC %.3f"%auc); rep("  D",s); rep("  D+consensus",z(s)+z(C)); rep("  D+2consensus",z(s)+2*z(C)); rep("  D+cons+own",z(s)+z(C)+z(G))
