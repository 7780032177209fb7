exec(open("corr.py").read().replace('a=t.eval(te[:120])','a=dict(rL=0)#'))
# backward model: question given answer
for lr in (4e-3,8e-3):
    bt=T(seed,gen="embedding+lora",lr=lr); rev=[Pair(p.answer,p.question) for p in tr]; mle(bt,rev,seed=seed)
    qs=[p.question for p in Q for _ in range(K)]
    with torch.no_grad():
        L=answer_losses(bt.m,bt.tok,[Pair(a or "x",q) for q,a in zip(qs,texts)],cfg)
    B=np.array([-x/n for x,n in L]).reshape(-1,K)
    Lt=answer_losses(bt.m,bt.tok,[Pair(p.answer,p.question) for p in te[:120]],cfg); print("backward NLL on test", sum(x for x,_ in Lt)/sum(n for _,n in Lt))
    rep("backward",B); rep("backward+consensus",z(B)+z(C)); rep("b+2c",z(B)+2*z(C)); rep("b+c+own",z(B)+z(C)+z(G)); rep("b+base",z(B)+z(Mn)); rep("b+c+base",z(B)+z(C)+z(Mn)); rep("b+base sum",z(B)+z(S)); rep("b+c+base+own",z(B)+z(C)+z(Mn)+z(G))
    gq=generate_answers(bt.m,bt.tok,ua[:6],cfg); print(list(zip(ua[:6],gq)))
