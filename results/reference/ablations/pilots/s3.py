from lab import *
which=sys.argv[1].split(","); seeds=[int(x) for x in sys.argv[2].split(",")]
S=dict(gen="embedding+lora",lr=8e-3); L=dict(gen="lora",lr=8e-3)
V={
"stack":(S,lambda *a:None),"lora":(L,lambda *a:None),
"lora+LMempty":(L,lambda t,uq,ua,s:LM(t,ua,"empty",seed=s)),
"stack+LMempty":(S,lambda t,uq,ua,s:LM(t,ua,"empty",seed=s)),
"stack+bo8 w.5":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,weight=.5)),
"stack+bo8 w.25":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,weight=.25)),
"stack+bo8 w.5 start.5 every2":(S,lambda t,uq,ua,s:Unpaired(t,uq,seed=s,weight=.5,start=.5,every=2)),
"stack+bo8 w.25+LMempty":(S,lambda t,uq,ua,s:both(Unpaired(t,uq,seed=s,weight=.25),LM(t,ua,"empty",seed=s))),
"stack+bo8 w.25 gate.6+LMempty":(S,lambda t,uq,ua,s:both(Unpaired(t,uq,seed=s,weight=.25,gate=.6),LM(t,ua,"empty",seed=s))),
"stack+bo8 w.5 start.6+LMempty":(S,lambda t,uq,ua,s:both(Unpaired(t,uq,seed=s,weight=.5,start=.6),LM(t,ua,"empty",seed=s))),
}
for seed in seeds:
    tr,te,uq,ua,_=setup(seed)
    for name in which:
        kw,ex=V[name]
        t0=time.time(); t=T(seed,**kw); mle(t,tr,seed=seed,extra=ex(t,uq,ua,seed)); s=time.time()-t0
        save(name,seed,t.eval(te),s,dict(params=t.n))
