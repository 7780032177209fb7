from lab import *
ALL=["c_attn","c_proj","c_fc"]
for seed in (0,1,2):
    tr,te,uq,ua,_=setup(seed)
    for name,kw in [("lora all r8 4e-3",dict(gen="lora",lr=4e-3,targets=ALL)),("lora all r8 8e-3",dict(gen="lora",lr=8e-3,targets=ALL)),("lora all r6 8e-3",dict(gen="lora",lr=8e-3,targets=ALL,rank=6)),("lora r26 8e-3",dict(gen="lora",lr=8e-3,rank=26)),("stack all 8e-3",dict(gen="embedding+lora",lr=8e-3,targets=ALL)),("stack all 4e-3",dict(gen="embedding+lora",lr=4e-3,targets=ALL))]:
        t0=time.time(); t=T(seed,**kw); mle(t,tr,seed=seed); s=time.time()-t0
        save(name,seed,t.eval(te),s,dict(params=t.n))
