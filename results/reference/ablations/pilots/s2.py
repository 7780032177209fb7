from lab import *
which=sys.argv[1].split(","); seeds=[int(x) for x in sys.argv[2].split(",")]
S=dict(gen="embedding+lora",lr=8e-3); L=dict(gen="lora",lr=8e-3)
V={
"lora+LMtext":(L,lambda t,uq,ua,s:LM(t,ua,"text",seed=s)),
"lora+LMempty":(L,lambda t,uq,ua,s:LM(t,ua,"empty",seed=s)),
"stack+LMtext":(S,lambda t,uq,ua,s:LM(t,ua,"text",seed=s)),
"stack+bo8":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s)),
"lora+bo8":(L,lambda t,uq,ua,s:Unpaired(t,uq,seed=s)),
"stack+bo8+LMtext":(S,lambda t,uq,ua,s:both(Unpaired(t,uq,seed=s),LM(t,ua,"text",seed=s))),
"stack+bo8 gate.5":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,gate=.5)),
"stack+random8":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,score="random")),
"stack+LMempty":(S,lambda t,uq,ua,s:LM(t,ua,"empty",seed=s)),
"stack+bo8+LMempty":(S,lambda t,uq,ua,s:both(Unpaired(t,uq,seed=s),LM(t,ua,"empty",seed=s))),
"stack+bo8 w.5":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,weight=.5)),
"stack+bo8 bs16":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,bs=16)),
"stack+bo8 T.7":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,temp=.7)),
"stack+bo8 start.6":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,start=.6)),
"stack+bo8 every3":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,every=3)),
"stack":(S,lambda *a:None),"lora":(L,lambda *a:None),
}
for seed in seeds:
    tr,te,uq,ua,_=setup(seed)
    for name in which:
        kw,ex=V[name]
        t0=time.time(); t=T(seed,**kw); mle(t,tr,seed=seed,extra=ex(t,uq,ua,seed)); s=time.time()-t0
        save(name,seed,t.eval(te),s,dict(params=t.n))
