from lab import *
for seed in (0,1):
    tr,te,uq,ua,_=setup(seed)
    for name,kw in [("lora r8 8e-3",dict(gen="lora",lr=8e-3)),("stack 2e-3",dict(gen="embedding+lora",lr=2e-3)),("stack 8e-3",dict(gen="embedding+lora",lr=8e-3)),
                    ("stack lora 8e-3 emb 2e-3",dict(gen="embedding+lora",lr=8e-3,lr_emb=2e-3)),("stack lora 4e-3 emb 1e-3",dict(gen="embedding+lora",lr=4e-3,lr_emb=1e-3)),("stack lora 8e-3 emb 5e-4",dict(gen="embedding+lora",lr=8e-3,lr_emb=5e-4)),("lora r26 8e-3",dict(gen="lora",lr=8e-3,rank=26))]:
        t0=time.time(); t=T(seed,**kw); mle(t,tr,seed=seed); s=time.time()-t0
        save(name,seed,t.eval(te),s,dict(params=t.n))
