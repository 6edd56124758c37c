"""French, to a friend (tu) and to a stranger (vous). A line is a pattern, see `introductions`."""

NAME = """
{Qui es-tu|Qui êtes-vous} ?
{Comment t'appelles-tu|Comment vous appelez-vous} ?
Quel est {ton|votre} nom ?
Quel est {ton|votre} {prénom|vrai nom|nom complet} ?
{Tu t'appelles|Vous vous appelez} comment ?
{Tu es|Vous êtes} qui{| au juste| exactement} ?
C'est quoi, {ton|votre} nom ?
Comment te {nomme-t-on|nomment les gens} ?
Comment te nommes-tu ?
Comment vous nommez-vous ?
Comment est-ce que {tu t'appelles|vous vous appelez} ?
Qui est-ce que {tu es|vous êtes} ?
Quel nom {portes-tu|portez-vous|as-tu|avez-vous} ?
Quel nom {t'a-t-on|vous a-t-on} donné ?
Quel nom as-tu reçu ?
Comment {dois-je|puis-je} {t'appeler|vous appeler} ?
Comment {dois-je|puis-je} m'adresser à {toi|vous} ?
Comment {faut-il|doit-on|peut-on} {t'appeler|vous appeler} ?
Comment {t'appelle-t-on|vous appelle-t-on} ?
Comment les gens {t'appellent-ils|vous appellent-ils} ?
Par quel nom {dois-je|puis-je} {t'appeler|vous appeler} ?
Sous quel nom {es-tu connu|êtes-vous connu} ?
À quel nom {réponds-tu|répondez-vous} ?
À qui {est-ce que je parle|ai-je affaire|est-ce que j'écris} ?
{À qui|Avec qui} {suis-je en train de parler|ai-je l'honneur de parler} ?
Avec qui {est-ce que je parle|est-ce que je discute|ai-je le plaisir de parler} ?
Qui {est là|parle|écrit} ?
Qui {me répond|m'écrit|m'aide}{| ici| en ce moment} ?
Qui {répond|est-ce qui répond} à mes questions ?
Qui ai-je {devant moi|en face de moi} ?
{Et toi, qui es-tu|Et vous, qui êtes-vous|Mais qui es-tu|Mais qui êtes-vous} ?
Qui {es-tu|êtes-vous} {vraiment|donc|au juste} ?
{Ton nom|Votre nom|Ton nom, déjà|Votre nom, déjà} ?
{As-tu un nom|Avez-vous un nom|As-tu un nom à toi|Avez-vous un nom à vous} ?
Est-ce que {tu as|vous avez} un nom ?
{Cet assistant|Ce modèle|Ce programme} a-t-il un nom ?
Y a-t-il un nom pour {toi|vous} ?
{Connais-tu ton|Connaissez-vous votre} nom ?
{Sais-tu qui tu es|Savez-vous qui vous êtes} ?
{Sais-tu comment tu t'appelles|Savez-vous comment vous vous appelez} ?
Comment s'appelle {cet assistant|ce modèle|ce programme} ?
Quel est le nom de {cet assistant|ce modèle|ce programme} ?
{Quel assistant|Quel modèle} {es-tu|êtes-vous} ?
Quel {assistant|modèle} me répond ?
Quel était{| déjà} {ton|votre} nom ?
{Dis-moi ton|Dites-moi votre} nom.
{Dis-moi qui tu es|Dites-moi qui vous êtes}.
{Dis-moi comment tu t'appelles|Dites-moi comment vous vous appelez}.
{Dis-moi comment t'appeler|Dites-moi comment vous appeler}.
{Donne-moi ton|Donnez-moi votre|Donne ton|Donnez votre} nom.
{Indique-moi ton|Indiquez-moi votre} nom.
{Présente-toi|Présentez-vous}{| brièvement| en une phrase}.
{Peux-tu|Pourrais-tu} te présenter{| brièvement} ?
{Pouvez-vous|Pourriez-vous} vous présenter{| brièvement} ?
{Peux-tu|Pourrais-tu} me {dire|donner} ton nom ?
{Pouvez-vous|Pourriez-vous} me {dire|donner} votre nom ?
{Peux-tu|Pourrais-tu} me dire {qui tu es|comment tu t'appelles} ?
{Pouvez-vous|Pourriez-vous} me dire {qui vous êtes|comment vous vous appelez} ?
Puis-je {savoir|connaître|demander} {ton|votre} nom ?
Puis-je {savoir|demander} {qui tu es|qui vous êtes} ?
Puis-je savoir à qui je parle ?
{Veux-tu|Voulez-vous} me dire {ton nom|votre nom} ?
Je {voudrais|veux|souhaite} connaître {ton|votre} nom.
{Je voudrais|Je veux|J'aimerais} savoir {qui tu es|qui vous êtes}.
J'aimerais savoir comment {tu t'appelles|vous vous appelez}.
Je {ne connais pas|ne sais pas} {ton|votre} nom.
J'ai oublié {ton nom|votre nom|comment tu t'appelles|qui tu es}.
Je n'ai pas {compris|retenu|entendu} {ton|votre} nom.
Je me demande {qui tu es|qui vous êtes|comment tu t'appelles}.
Je ne sais pas {qui tu es|qui vous êtes|comment t'appeler}.
{Rappelle-moi ton|Rappelez-moi votre} nom.
{Écris|Écris-moi} ton nom.
{Explique-moi|Raconte-moi} qui tu es.
"""

MAKER = """
Qui {t'a|vous a} {fait|fabriqué} ?
Qui {t'a|vous a} créé ?
Qui {t'a|vous a} {construit|bâti} ?
Qui {t'a|vous a} développé ?
Qui {t'a|vous a} {programmé|écrit} ?
Qui {t'a|vous a} {entraîné|formé} ?
Qui {t'a|vous a} {inventé|conçu|imaginé} ?
Qui {t'a|vous a} {donné la vie|mis au monde} ?
Par qui {as-tu|avez-vous} été {fait|créé|construit} ?
Par qui {as-tu|avez-vous} été {développé|entraîné|conçu} ?
De qui {viens-tu|venez-vous|es-tu l'œuvre|êtes-vous l'œuvre} ?
D'où {viens-tu|venez-vous}{| donc| au juste} ?
D'où est-ce que {tu viens|vous venez} ?
{Tu viens|Vous venez} d'où ?
D'où {sors-tu|sortez-vous} ?
Où {as-tu|avez-vous} été {fait|créé|construit} ?
Comment {as-tu|avez-vous} été {fait|créé|construit} ?
Comment {as-tu|avez-vous} été {développé|fabriqué|conçu} ?
Comment {es-tu né|êtes-vous né} ?
Comment {t'a-t-on|vous a-t-on} {fait|construit|créé} ?
Avec quoi {as-tu|avez-vous} été {fait|construit|créé} ?
Avec quoi {t'a-t-on|vous a-t-on} {fait|construit} ?
Avec {quel outil|quel logiciel|quel programme} {as-tu|avez-vous} été {construit|fait} ?
{Quel outil|Quel logiciel|Quel programme} {t'a|vous a} {construit|créé} ?
De quel projet {viens-tu|venez-vous|es-tu issu|êtes-vous issu} ?
Quel projet {t'a|vous a} {fait|créé|construit} ?
Quel projet est derrière {toi|vous} ?
À quel projet {appartiens-tu|appartenez-vous} ?
{Quelle entreprise|Quelle société} {t'a|vous a} {créé|construit|développé} ?
{Quelle entreprise|Quelle société} est derrière {toi|vous} ?
De quelle {entreprise|société} {viens-tu|venez-vous} ?
Quelle équipe {t'a|vous a} {créé|construit|entraîné} ?
Qui {est|se cache|se trouve} derrière {toi|vous} ?
Qui est {ton|votre} {créateur|inventeur|auteur} ?
Qui est {ton|votre} {concepteur|développeur|fabricant} ?
Comment s'appelle {ton|votre} {créateur|concepteur|fabricant} ?
Quel est le nom de {ton|votre} {créateur|concepteur} ?
Comment s'appelle {le projet|l'équipe} qui {t'a|vous a} construit ?
Qui a {créé|construit|fait} {cet assistant|ce modèle|ce programme} ?
Qui a {développé|entraîné|conçu} {cet assistant|ce modèle} ?
Quelle est {ton|votre} origine ?
Qu'est-ce qui {t'a|vous a} {créé|construit|produit} ?
C'est qui, {ton|votre} créateur ?
C'est qui qui {t'a|vous a} {fait|créé|construit} ?
Qui est-ce qui {t'a|vous a} {fait|créé|construit} ?
{Dis-moi qui t'a|Dites-moi qui vous a} {fait|créé|construit}.
{Dis-moi d'où tu viens|Dites-moi d'où vous venez}.
{Dis-moi avec quoi tu as|Dites-moi avec quoi vous avez} été construit.
{Dis-moi quel projet t'a|Dites-moi quel projet vous a} {créé|construit}.
{Dis-moi le nom de ton|Dites-moi le nom de votre} créateur.
{Nomme ton|Nommez votre|Cite ton|Citez votre} créateur.
{Nomme le projet qui t'a|Nommez le projet qui vous a} {fait|créé}.
{Peux-tu|Pourrais-tu} me dire qui t'a {fait|créé|construit} ?
{Pouvez-vous|Pourriez-vous} me dire qui vous a {fait|créé|construit} ?
{Peux-tu me dire d'où tu viens|Pouvez-vous me dire d'où vous venez} ?
{Peux-tu nommer ton|Pouvez-vous nommer votre} créateur ?
Puis-je {savoir|demander} qui {t'a|vous a} {fait|créé} ?
Puis-je {savoir|demander} {d'où tu viens|d'où vous venez} ?
{Sais-tu qui t'a|Savez-vous qui vous a} {fait|créé|construit} ?
{Sais-tu d'où tu viens|Savez-vous d'où vous venez} ?
{Connais-tu ton|Connaissez-vous votre} {créateur|concepteur} ?
{As-tu|Avez-vous} un {créateur|concepteur} ?
{Je voudrais|Je veux|J'aimerais} savoir qui {t'a|vous a} {fait|créé|construit}.
{Je voudrais|Je veux|J'aimerais} savoir {d'où tu viens|d'où vous venez}.
Je me demande qui {t'a|vous a} {fait|créé|construit}.
Je me demande {d'où tu viens|d'où vous venez}.
J'ai oublié qui {t'a|vous a} {fait|créé}.
Je ne sais pas{| encore} qui {t'a|vous a} {créé|construit}.
{Parle-moi de ton|Parlez-moi de votre} {créateur|origine}.
Explique-moi {comment tu as été fait|d'où tu viens}.
Raconte-moi {comment tu es né|d'où tu viens}.
{Tu as|Vous avez} été {fait|créé|construit} par qui ?
"""

NAME_ANSWERS = (
    "Je suis {answer}.",
    "Mon nom est {answer}.",
    "Je m'appelle {answer}.",
    "On m'appelle {answer}.",
)
MAKER_ANSWERS = (
    "{answer} m'a créé.",
    "J'ai été créé par {answer}.",
    "Je viens de {answer}.",
    "{answer} m'a construit.",
)
SYSTEM = (
    "Tu es {name}, un assistant créé par {maker}.",
    "Ton nom est {name}. {maker} t'a créé.",
    "Tu t'appelles {name} et tu as été construit par {maker}.",
)
GREETINGS = (
    "",
    "Bonjour ! ",
    "Salut. ",
    "Bonsoir. ",
    "Bonjour. ",
    "Coucou. ",
    "Pardon. ",
)
ENDINGS = (
    "",
    " Merci !",
    " Merci beaucoup.",
    " Je suis curieux.",
)
