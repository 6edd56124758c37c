"""German, to a friend (du) and to a stranger (Sie). A line is a pattern, see `identity_phrases`."""

NAME = """
{Wie heißt du|Wie heißen Sie}?
{Wer bist du|Wer sind Sie}?
Wie {ist|lautet} {dein|Ihr} Name?
Was ist {dein|Ihr} Name?
Welchen Namen {hast du|haben Sie|trägst du|tragen Sie}?
Welcher Name wurde {dir|Ihnen} gegeben?
Welchen Namen hat man {dir|Ihnen} gegeben?
Wie {nennst du dich|nennen Sie sich}?
Wie nennt man {dich|Sie}?
Wie nennen {dich|Sie} {die Leute|andere}?
Wie {wirst du|werden Sie} genannt?
Wie {soll|darf|kann} ich {dich|Sie} nennen?
Wie {soll|darf} ich {dich|Sie} ansprechen?
Mit welchem Namen {soll|darf} ich {dich|Sie} ansprechen?
Unter welchem Namen {bist du|sind Sie} bekannt?
Unter welchem Namen kennt man {dich|Sie}?
Auf welchen Namen {hörst du|hören Sie}?
Mit wem {spreche|rede|schreibe} ich{| hier| gerade}?
Mit wem {habe ich es zu tun|habe ich das Vergnügen|unterhalte ich mich}?
{Wen habe ich vor mir|Wen frage ich hier}?
Wer {spricht|schreibt|ist} da?
Wer {antwortet|hilft|schreibt} mir{| hier| gerade}?
Wer {bist du|sind Sie} {eigentlich|genau|denn}?
Und {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
{Du bist|Sie sind} wer?
{Du heißt|Sie heißen} wie?
{Dein|Ihr} Name{|, wenn ich fragen darf}?
{Hast du|Haben Sie} {einen|auch einen|einen eigenen} Namen?
Hat {dieser Assistent|dieses Modell|dieses Programm} einen Namen?
Gibt es einen Namen für {dich|Sie}?
{Kennst du deinen|Kennen Sie Ihren} Namen?
{Weißt du, wer du bist|Wissen Sie, wer Sie sind|Weißt du, wie du heißt|Wissen Sie, wie Sie heißen}?
Wie heißt {dieser Assistent|dieses Modell|dieses Programm}?
Wie heißt der Assistent, mit dem ich {spreche|schreibe}?
{Welcher Assistent|Welches Modell|Welcher Chatbot} {bist du|sind Sie}?
Welcher Assistent {ist das|antwortet mir|hilft mir}?
Wie war {noch|gleich|doch gleich} {dein|Ihr} Name?
Wie {heißt du|heißen Sie} {noch|noch gleich}?
{Sag mir deinen|Sagen Sie mir Ihren} Namen.
{Sag mir, wer du bist|Sagen Sie mir, wer Sie sind}.
{Sag mir, wie du heißt|Sagen Sie mir, wie Sie heißen}.
{Sag mir, wie ich dich|Sagen Sie mir, wie ich Sie} nennen {soll|darf}.
{Nenn mir deinen|Nennen Sie mir Ihren|Nenne deinen|Nennen Sie Ihren} Namen.
{Verrate mir deinen|Verraten Sie mir Ihren} Namen.
{Verrate mir, wer du bist|Verraten Sie mir, wer Sie sind}.
{Stell dich|Stellen Sie sich}{| mir| kurz| einmal} vor.
{Kannst|Könntest|Magst} du dich{| kurz} vorstellen?
{Können|Könnten|Würden} Sie sich{| kurz} vorstellen?
{Kannst du mir deinen|Können Sie mir Ihren|Könnten Sie mir Ihren} Namen {sagen|nennen}?
{Kannst|Könntest} du mir sagen, {wie du heißt|wer du bist}?
{Können|Könnten} Sie mir sagen, {wie Sie heißen|wer Sie sind}?
Darf ich nach {deinem|Ihrem} Namen fragen?
Darf ich {deinen|Ihren} Namen {wissen|erfahren}?
Darf ich fragen, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}?
Darf ich {wissen|fragen}, mit wem ich spreche?
{Verrätst du mir|Sagst du mir|Nennst du mir} deinen Namen?
{Sagst|Verrätst} du mir, {wer du bist|wie du heißt}?
Ich möchte {deinen|Ihren} Namen {wissen|erfahren}.
Ich möchte wissen, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}.
Ich wüsste gern, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}.
Ich {kenne deinen Namen nicht|kenne Ihren Namen nicht|weiß deinen Namen nicht}.
Ich habe {deinen|Ihren} Namen {vergessen|nicht verstanden}.
Ich habe vergessen, {wie du heißt|wer du bist|wie Sie heißen}.
Ich weiß{| noch} nicht, {wer du bist|wer Sie sind}.
Ich frage mich, {wer du bist|wie du heißt|wer Sie sind}.
Mich interessiert {dein|Ihr} Name.
Mich interessiert, {wer du bist|wie du heißt}.
Schreib {deinen Namen|mir deinen Namen|mir, wie du heißt}.
{Erklär|Erzähl} mir, wer du bist.
Wie würdest du dich{| selbst} vorstellen?
Wie {heißt du|heißen Sie} {denn|eigentlich|hier|genau}?
Wie ist der Name{| des Assistenten| dieses Programms}?
Wie lautet der Name {dieses Assistenten|dieses Modells|des Chatbots}?
Wie {lautet|ist} {dein voller|Ihr voller|dein richtiger|Ihr richtiger} Name?
Wie {möchtest du|möchten Sie|willst du|wollen Sie} genannt werden?
Wie {möchtest du|möchten Sie} angesprochen werden?
Wie kann ich {dich|Sie} {ansprechen|rufen}?
Wie ruft man {dich|Sie}?
Wie rufen {dich|Sie} {die Leute|andere}?
Wie sagt man zu {dir|Ihnen}?
Wie {stellst du dich|stellen Sie sich} vor?
Wie würden Sie sich{| selbst} vorstellen?
Wie nennt sich {dieser Assistent|dieses Modell|dieses Programm}?
Wie {wurdest du|wurden Sie} genannt?
Was ist {dein voller|Ihr voller|dein eigener|Ihr eigener} Name?
Was ist der Name {dieses Assistenten|dieses Modells|dieses Programms}?
Welcher Name {ist deiner|ist Ihrer|gehört dir|gehört Ihnen}?
Welchen Namen {darf|soll|kann} ich {benutzen|verwenden|schreiben}?
Welchen Namen {benutzt du|benutzen Sie|führst du|führen Sie}?
Welches {Programm|Modell} {antwortet mir|hilft mir|schreibt mir|ist das}?
Wer {bist du|sind Sie} {hier|überhaupt|wirklich}?
Wer {ist das|ist hier|ist dran|ist am anderen Ende}?
Wer {hilft|antwortet} {hier|da}?
Wer {beantwortet|liest} meine Fragen?
Wer ist {dieser Assistent|dieses Modell|dieser Chatbot}?
Wer {spricht|redet|schreibt} mit mir{| hier| gerade}?
Wer ist es, {der mir antwortet|der mir hilft|mit dem ich spreche}?
Wer {sitzt mir gegenüber|ist mein Gegenüber}?
Mit wem {bin ich verbunden|unterhalte ich mich hier|chatte ich}?
Mit {welchem Assistenten|welchem Modell|welchem Chatbot} {spreche|rede|schreibe} ich?
An wen {schreibe ich|wende ich mich|richte ich meine Fragen}?
Wem {schreibe ich|stelle ich meine Fragen}{| hier| gerade}?
Wen {darf ich begrüßen|habe ich hier|habe ich am anderen Ende}?
Unter welchem Namen {trittst du|treten Sie} auf?
{Bist du|Sind Sie} unter einem Namen bekannt?
{Trägst du|Tragen Sie} einen Namen?
{Hast du|Haben Sie} einen Namen {bekommen|für mich}?
{Besitzt du|Besitzen Sie} einen {Namen|eigenen Namen}?
Sag deinen Namen{| noch einmal}.
Sagen Sie Ihren Namen{| noch einmal}.
{Wiederhole deinen|Wiederholen Sie Ihren} Namen.
{Sag|Schreib} mir einfach{ deinen Namen|, wie du heißt|, wer du bist}.
Schreiben Sie mir, {wer Sie sind|wie Sie heißen}.
Nun {sag mir deinen Namen|sagen Sie mir Ihren Namen|sag mir, wer du bist}.
Zuerst: {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Also, {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
{Könntest|Kannst} du mir deinen Namen verraten?
Würden Sie mir Ihren Namen {sagen|nennen|verraten}?
Würdest du mir deinen Namen {sagen|nennen|verraten}?
Würdest du dich{| kurz} vorstellen?
Darf ich {erfahren|hören}, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}?
Ich {will|muss} {deinen|Ihren} Namen {wissen|kennen}.
Ich {will|muss} wissen, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}.
Ich würde gern {deinen|Ihren} Namen {wissen|erfahren|hören}.
Ich würde gern wissen, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}.
Ich habe keine Ahnung, {wer du bist|wie du heißt|wer Sie sind|wie Sie heißen}.
Ich bin nicht sicher, {wer du bist|mit wem ich spreche|wer Sie sind}.
Ich habe nicht {gehört|verstanden}, {wie du heißt|wer du bist|wie Sie heißen}.
Ich kenne dich{| noch} nicht: {wer bist du|wie heißt du}?
Ich heiße Anna, {und du|und Sie|wie heißt du|wie heißen Sie}?
Ich bin Tom, {und du|und Sie|und wer bist du|und wer sind Sie}?
Jeder hat einen Namen, {welchen hast du|welchen haben Sie|wie ist deiner|wie ist Ihrer}?
Mir fehlt {dein|Ihr} Name.
Mir ist {dein|Ihr} Name {entfallen|unbekannt}.
{Erinnere mich an deinen|Erinnern Sie mich an Ihren} Namen.
Welcher {Bot|Assistent|Chatbot} {hilft mir|schreibt mir} {hier|da}?
Welches {System|Programm|Modell} {benutze|verwende|nutze} ich {hier|gerade}?
Welchen {Assistenten|Chatbot|Bot} {benutze|verwende|nutze} ich {hier|gerade}?
Der Assistent hier heißt {wie|wie genau}?
Das Modell hier heißt {wie|wie genau}?
Dieser {Assistent|Chatbot} heißt {wie|wie noch}?
Wie heißt der {Chatbot|Bot}, {den ich benutze|mit dem ich rede|der mir antwortet}?
Wie heißt das {Modell|Programm}, {das ich benutze|mit dem ich rede|das mir antwortet}?
Wie heißt {man dich|man Sie}?
Wie {sollte|könnte} ich {dich|Sie} {nennen|ansprechen}?
Wie {sollen|dürfen} wir {dich|Sie} {nennen|ansprechen}?
Wie {war|ist} {dein|Ihr} Name {genau|bitte schön|nun}?
Wie {redet|spricht} man {dich|Sie} an?
Wie {rede|spreche} ich {dich|Sie} an?
Wie {ruft|nennt} man {dich|Sie} {sonst|hier|gern}?
Wie {stellt man dich|stellt man Sie} vor?
Wie {würdest du|würden Sie} {heißen wollen|genannt werden}?
Was {steht|steht denn} auf {deinem|Ihrem} Namensschild?
Was ist {der Name|der richtige Name} für {dich|Sie}?
Wer {verbirgt|versteckt} sich {hier|da}?
Wer {meldet sich|begrüßt mich|redet} {hier|da}?
Wer {bist du|sind Sie}, {wenn ich fragen darf|in einem Wort|kurz gesagt}?
Wer {steht|sitzt} vor mir?
Wer {sagt|schreibt|fragt} das?
Wer ist {am Apparat|am Telefon|mein Helfer}?
Wer hilft mir {bei meinen Fragen|heute}?
Wem darf ich {danken|schreiben|antworten}?
Mit wem {darf ich reden|darf ich sprechen}?
Zu wem {spreche|rede} ich?
Bei wem {bin ich hier|melde ich mich}?
An welchen {Assistenten|Chatbot} {schreibe ich|wende ich mich}?
In einem Wort: {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Kurz: {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Na, {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Nun, {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Sag, {wer bist du|wie heißt du}?
Sagen Sie, {wer sind Sie|wie heißen Sie}?
Bevor wir anfangen, {wer bist du|wer sind Sie|wie heißt du|wie heißen Sie}?
Wir kennen uns{| noch} nicht, {wer bist du|wie heißt du|wie heißen Sie}?
{Du nennst dich|Sie nennen sich} wie?
{Man nennt dich|Man nennt Sie} wie?
{Mach dich|Machen Sie sich} {bekannt|mit mir bekannt}.
{Beginne mit deinem|Beginnen Sie mit Ihrem} Namen.
{Fang mit deinem|Fangen Sie mit Ihrem} Namen an.
{Trag deinen|Tragen Sie Ihren} Namen ein.
{Gib deinen|Geben Sie Ihren} Namen {an|ein}.
{Teil mir deinen|Teilen Sie mir Ihren} Namen mit.
{Lass mich deinen|Lassen Sie mich Ihren} Namen wissen.
{Lass mich wissen, wer du bist|Lassen Sie mich wissen, wer Sie sind}.
{Lass mich wissen, wie du heißt|Lassen Sie mich wissen, wie Sie heißen}.
{Unterschreibe mit deinem|Unterschreiben Sie mit Ihrem} Namen.
{Verrätst du|Verraten Sie} {deinen|Ihren} Namen?
{Gibst du mir deinen|Geben Sie mir Ihren} Namen?
{Magst|Willst} du mir {deinen Namen sagen|sagen, wie du heißt|sagen, wer du bist}?
{Möchten|Wollen} Sie mir {Ihren Namen sagen|sagen, wie Sie heißen|sagen, wer Sie sind}?
Dürfte ich {deinen|Ihren} Namen {wissen|erfahren|hören}?
Könnte ich {deinen|Ihren} Namen {wissen|erfahren|hören}?
Ich vergesse immer {deinen|Ihren} Namen.
Ich vergesse immer, {wie du heißt|wer du bist|wie Sie heißen|wer Sie sind}.
Ich soll {dich|Sie} wie nennen?
Ich spreche mit {wem|wem genau|welchem Assistenten}?
Ich brauche {deinen|Ihren} Namen.
Ich frage nach {deinem|Ihrem} Namen.
Ich hätte gern {deinen|Ihren} Namen {gewusst|gehört}.
Keiner hat mir gesagt, {wie du heißt|wer du bist|wie Sie heißen|wer Sie sind}.
Mein Freund fragt, {wie du heißt|wer du bist|wie Sie heißen|wer Sie sind}.
"""

MAKER = """
Wer hat {dich|Sie} gemacht?
Wer hat {dich|Sie} {gebaut|konstruiert}?
Wer hat {dich|Sie} {erschaffen|geschaffen}?
Wer hat {dich|Sie} entwickelt?
Wer hat {dich|Sie} {programmiert|geschrieben}?
Wer hat {dich|Sie} {trainiert|angelernt}?
Wer hat {dich|Sie} {erfunden|entworfen}?
Wer hat {dich|Sie} hergestellt?
Von wem {wurdest du|wurden Sie} {gemacht|gebaut|erschaffen}?
Von wem {wurdest du|wurden Sie} {entwickelt|trainiert|programmiert}?
Von wem {bist du|sind Sie} {gebaut|gemacht} worden?
Von wem {stammst du|stammen Sie|kommst du|kommen Sie}?
Woher {kommst du|kommen Sie|stammst du|stammen Sie}?
Wo {kommst du|kommen Sie}{| denn| eigentlich} her?
Wo {wurdest du|wurden Sie} {gemacht|gebaut|entwickelt}?
Wo {bist du|sind Sie} entstanden?
Wie {bist du|sind Sie} entstanden?
Wie {wurdest du|wurden Sie} {gemacht|gebaut|entwickelt}?
Wie hat man {dich|Sie} {gemacht|gebaut}?
Womit {wurdest du|wurden Sie} {gemacht|gebaut|trainiert}?
Womit hat man {dich|Sie} {gemacht|gebaut}?
Mit {welchem Werkzeug|welchem Programm|welcher Software} {wurdest du|wurden Sie} gebaut?
{Welches Werkzeug|Welches Programm|Welche Software} hat {dich|Sie} {gebaut|gemacht}?
Aus welchem Projekt {kommst du|kommen Sie|stammst du|stammen Sie}?
Welches Projekt hat {dich|Sie} {gebaut|gemacht|trainiert}?
Welches Projekt steckt hinter {dir|Ihnen}?
Zu welchem Projekt {gehörst du|gehören Sie}?
{Welche Firma|Welches Unternehmen} hat {dich|Sie} {gebaut|gemacht|entwickelt}?
{Welche Firma|Welches Unternehmen} {steckt|steht} hinter {dir|Ihnen}?
Von {welcher Firma|welchem Unternehmen} {kommst du|kommen Sie|bist du|sind Sie}?
Welches Team hat {dich|Sie} {gebaut|entwickelt|trainiert}?
Wer {steckt|steht} hinter {dir|Ihnen}?
Wer ist {dein|Ihr} {Schöpfer|Erfinder|Erbauer}?
Wer ist {dein|Ihr} {Entwickler|Hersteller}?
Wie heißt {dein|Ihr} {Schöpfer|Hersteller|Entwickler}?
Wie heißt {das Projekt, das|die Firma, die} {dich|Sie} gebaut hat?
Wer hat {diesen Assistenten|dieses Modell|dieses Programm} {gebaut|gemacht}?
Wer hat {diesen Assistenten|dieses Modell|diesen Chatbot} {entwickelt|trainiert}?
Wessen {Werk|Erfindung|Produkt} {bist du|sind Sie}?
{Was ist dein|Was ist Ihr|Wo liegt dein|Wo liegt Ihr} Ursprung?
Was hat {dich|Sie} {erschaffen|hervorgebracht}?
{Sag mir, wer dich|Sagen Sie mir, wer Sie} {gemacht|gebaut} hat.
{Sag mir, woher du kommst|Sagen Sie mir, woher Sie kommen}.
{Sag mir, womit du gebaut wurdest|Sagen Sie mir, womit Sie gebaut wurden}.
{Nenn mir deinen|Nennen Sie mir Ihren} {Schöpfer|Hersteller|Entwickler}.
{Nenn mir das Projekt, das dich|Nennen Sie mir das Projekt, das Sie} {gemacht|gebaut} hat.
{Verrate mir, wer dich|Verraten Sie mir, wer Sie} {gemacht|gebaut|entwickelt} hat.
{Kannst|Könntest} du mir sagen, wer dich {gemacht|gebaut|entwickelt} hat?
{Können|Könnten} Sie mir sagen, wer Sie {gemacht|gebaut|entwickelt} hat?
{Kannst du mir sagen, woher du kommst|Können Sie mir sagen, woher Sie kommen}?
{Kannst du deinen|Können Sie Ihren} {Schöpfer|Hersteller} nennen?
Darf ich {fragen|wissen}, wer {dich|Sie} {gemacht|gebaut} hat?
Darf ich fragen, {woher du kommst|woher Sie kommen}?
{Weißt du, wer dich|Wissen Sie, wer Sie} {gemacht|gebaut|entwickelt} hat?
{Weißt du, woher du kommst|Wissen Sie, woher Sie kommen}?
{Kennst du deinen|Kennen Sie Ihren} {Schöpfer|Hersteller}?
{Hast du|Haben Sie} einen {Schöpfer|Hersteller}?
Ich {möchte|will} wissen, wer {dich|Sie} {gemacht|gebaut} hat.
Ich möchte wissen, {woher du kommst|woher Sie kommen}.
Ich wüsste gern, wer {dich|Sie} {gemacht|gebaut|entwickelt} hat.
Ich frage mich, wer {dich|Sie} {gemacht|gebaut} hat.
Ich frage mich, {woher du kommst|wie du entstanden bist}.
Mich interessiert, {woher du kommst|wie du entstanden bist}.
Mich interessiert, wer {dich|Sie} {gemacht|gebaut} hat.
Erzähl mir{ von deiner Herkunft| von deinem Ursprung|, wie du entstanden bist}.
Erklär mir, {wie du gebaut wurdest|woher du kommst}.
{Du wurdest|Sie wurden} von wem {gemacht|gebaut|entwickelt}?
Ich weiß{| noch} nicht, wer {dich|Sie} gebaut hat.
Wer hat {dich|Sie} {eigentlich|denn} {gemacht|gebaut|entwickelt}?
Wer hat {dich|Sie} {ins Leben gerufen|auf die Welt gebracht|zum Leben erweckt}?
Wer hat {dich|Sie} {zusammengebaut|zusammengesetzt|hervorgebracht}?
Wer hat {dich|Sie} {gelehrt|unterrichtet|ausgebildet}?
Wer {war|ist} es, der {dich|Sie} {gemacht|gebaut|entwickelt} hat?
Wer {baut|entwickelt|macht|trainiert} {dich|Sie}?
Wer {baut|entwickelt|macht} {diesen Assistenten|dieses Modell|dieses Programm}?
Wer hat {diesen Assistenten|dieses Modell|dieses Programm} {programmiert|erfunden|geschaffen}?
Wer {sind|waren} {deine|Ihre} {Entwickler|Schöpfer|Erbauer|Macher}?
Wer ist {dein|Ihr} {Programmierer|Macher|Urheber}?
Wer ist der {Entwickler|Schöpfer|Hersteller|Urheber} {dieses Assistenten|dieses Modells|dieses Programms}?
Wer ist für {dich|Sie} verantwortlich?
{Wem verdankst du dein|Wem verdanken Sie Ihr} {Dasein|Leben}?
Wessen {Assistent|Modell|Programm|Projekt} {bist du|sind Sie}?
Wessen Idee {warst du|waren Sie}?
Von wem wurde {dieser Assistent|dieses Modell|dieses Programm} {gemacht|gebaut|entwickelt}?
Von wem {wurdest du|wurden Sie} {erfunden|entworfen|hergestellt|geschrieben}?
Von {welchem Team|welchem Projekt|welcher Gruppe} {wurdest du|wurden Sie} {gebaut|gemacht|entwickelt}?
Von {welchem Hersteller|welchem Entwickler|welchem Team} {bist du|sind Sie|kommst du|kommen Sie}?
Durch wen {bist du|sind Sie} {entstanden|gemacht worden}?
Woher {bist du|sind Sie}{| gekommen}?
Woher {stammt|kommt} {dieser Assistent|dieses Modell|dieses Programm}?
Wo wurde {dieser Assistent|dieses Modell|dieses Programm} {gemacht|gebaut|entwickelt}?
Wo {wurdest du|wurden Sie} {trainiert|programmiert|geschaffen|hergestellt}?
Wo hat man {dich|Sie} {gemacht|gebaut|entwickelt}?
Wo {liegen deine|liegen Ihre|sind deine|sind Ihre} {Anfänge|Wurzeln}?
Wie {wurdest du|wurden Sie} {erschaffen|programmiert|trainiert|hergestellt}?
Wie ist {dieser Assistent|dieses Modell|dieses Programm} entstanden?
Wie kam es zu {dir|Ihnen}?
Wie {bist du|sind Sie} {gebaut|gemacht|entwickelt} worden?
Wie heißt {dein|Ihr} {Erfinder|Erbauer|Programmierer|Macher}?
Wie heißt {das Team, das|die Gruppe, die|das Programm, das} {dich|Sie} {gemacht|entwickelt} hat?
Wie lautet der Name {deines|Ihres} {Schöpfers|Herstellers|Entwicklers}?
Was ist der Name {deines|Ihres} {Schöpfers|Herstellers|Entwicklers|Projekts}?
Was {steckt|steht} hinter {dir|Ihnen}?
Was für {ein Projekt|eine Firma|ein Team} {steckt|steht} hinter {dir|Ihnen}?
Was hat {dich|Sie} {gemacht|gebaut|geschaffen}?
Welche {Leute|Entwickler|Menschen} haben {dich|Sie} {gemacht|gebaut|entwickelt}?
Welches {Team|Labor|Programm} {steckt|steht} hinter {dir|Ihnen}?
Welches {Labor|Unternehmen} hat {dich|Sie} {geschaffen|trainiert|hergestellt}?
Welchem {Projekt|Unternehmen|Team} {gehörst du|gehören Sie} an?
Aus {welcher Firma|welchem Labor|welchem Unternehmen} {kommst du|kommen Sie|stammst du|stammen Sie}?
Aus wessen {Hand|Werkstatt} {kommst du|kommen Sie|stammst du|stammen Sie}?
Gibt es {eine Firma|ein Projekt|ein Team} hinter {dir|Ihnen}?
{Kommst du|Kommen Sie|Stammst du|Stammen Sie} von {einer Firma|einem Projekt|einem Team}?
{Hast du|Haben Sie} {Entwickler|Erbauer|einen Erfinder|einen Entwickler}?
{Wurdest du|Wurden Sie} von {jemandem|einer Firma|einem Projekt|einem Team} {gemacht|gebaut}?
{Du kommst|Sie kommen|Du stammst|Sie stammen} {woher|von wem|aus welchem Projekt}?
{Du bist|Sie sind} von wem{| gemacht| gebaut| entwickelt}?
{Dein|Ihr} {Schöpfer|Hersteller|Entwickler} {ist wer|heißt wie}?
{Dein|Ihr} {Ursprung|Schöpfer|Hersteller}?
Sag mir, {von wem|wo|wie} du {gemacht|gebaut} wurdest.
Sagen Sie mir, {von wem|wo|wie} Sie {gemacht|gebaut} wurden.
{Sag mir, wer hinter dir|Sagen Sie mir, wer hinter Ihnen} {steckt|steht}.
Nenne {deinen Schöpfer|deinen Entwickler|das Projekt hinter dir|deine Herkunft}.
Nennen Sie {Ihren Schöpfer|Ihren Entwickler|das Projekt hinter Ihnen|Ihre Herkunft}.
{Erzähl|Berichte} mir von {deinem Schöpfer|deinen Entwicklern|deiner Entstehung}.
Erzählen Sie mir von {Ihrem Schöpfer|Ihren Entwicklern|Ihrer Entstehung|Ihrer Herkunft}.
Erklären Sie mir, {wie Sie gebaut wurden|woher Sie kommen|wer Sie gebaut hat}.
Schreib mir, {wer dich gemacht hat|woher du kommst|von wem du bist}.
Zuerst: {wer hat dich gemacht|wer hat Sie gemacht|woher kommst du|woher kommen Sie}?
Also, {wer hat dich gebaut|wer hat Sie gebaut|woher kommst du|woher kommen Sie}?
Und {wer hat dich gemacht|wer hat Sie gemacht|woher kommst du|woher kommen Sie}?
Würdest du mir {sagen|verraten}, {wer dich gemacht hat|woher du kommst}?
Würden Sie mir {sagen|verraten}, {wer Sie gemacht hat|woher Sie kommen}?
Darf ich {erfahren|hören}, {wer dich gebaut hat|wer Sie gebaut hat|woher du kommst|woher Sie kommen}?
Ich würde gern {wissen|erfahren}, wer {dich|Sie} {gemacht|gebaut|entwickelt} hat.
Ich würde gern wissen, {woher du kommst|woher Sie kommen|wie du entstanden bist}.
Ich habe keine Ahnung, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}.
Ich habe vergessen, {wer dich gebaut hat|wer Sie gebaut hat|woher du kommst}.
Ich weiß nicht, {woher du kommst|woher Sie kommen|wie du entstanden bist|von wem du bist}.
Ich muss wissen, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst}.
Jemand hat {dich|Sie} {gemacht|gebaut}, {aber wer|doch wer}?
Menschen haben {dich|Sie} gebaut, {aber welche|doch welche}?
Wer {sind|waren} die {Leute|Menschen|Entwickler} hinter {dir|Ihnen}?
Wer sind die {Macher|Entwickler|Schöpfer} {dieses Assistenten|dieses Modells|dieses Programms}?
Wer hat sich {dich|Sie} ausgedacht?
Wer hat {dich|Sie} {angefangen|begonnen|auf den Weg gebracht}?
Wer hat {dich|Sie} {bauen|machen|entwickeln} lassen?
Wer hat {dich|Sie} {erdacht|ersonnen|geformt}?
Wer hat an {dir|Ihnen} {gearbeitet|gebaut}?
Wer hat {dir|Ihnen} {das Leben geschenkt|das Sprechen beigebracht|alles beigebracht}?
Wer {arbeitet|baut} an {dir|Ihnen}?
Wer {gilt|zählt} als {dein|Ihr} {Schöpfer|Entwickler}?
Wer {dich|Sie} gemacht hat, {wer ist das|wie heißt der}?
Wer, {kurz gesagt|in einem Wort}, hat {dich|Sie} {gemacht|gebaut}?
Wem {gehörst du|gehören Sie} an?
Wem {verdanke|danke} ich {dich|Sie}?
Wem {bist du|sind Sie} {zu verdanken|entsprungen}?
Wessen {Schöpfung|Kind|Arbeit|Erzeugnis} {bist du|sind Sie}?
Wessen Hände haben {dich|Sie} {gemacht|gebaut}?
Von {welchen Leuten|welchen Entwicklern|welchen Menschen} {wurdest du|wurden Sie} {gemacht|gebaut|entwickelt}?
Von welchem {Projekt|Labor|Programm} {stammst du|stammen Sie|kommst du|kommen Sie}?
Von wo {kommst du|kommen Sie|stammst du|stammen Sie}?
Von wem {hast du|haben Sie} das Leben?
Durch welches {Projekt|Programm|Werkzeug} {bist du|sind Sie} entstanden?
Dank wem gibt es {dich|Sie}?
Aus welchem {Haus|Team|Programm} {kommst du|kommen Sie}?
Aus was {bist du|sind Sie} {entstanden|gemacht}?
Hinter {dir|Ihnen} {steckt|steht} {wer|welches Projekt|welche Firma}?
Zu {wem|welcher Firma|welchem Team} {gehörst du|gehören Sie}?
Mit was {wurdest du|wurden Sie} {gemacht|gebaut|trainiert}?
Mit {welchem Projekt|welchem Werkzeug|welcher Software} hat man {dich|Sie} {gemacht|gebaut}?
Womit {bist du|sind Sie} {gemacht|gebaut|entstanden}?
Worauf {gehst du|gehen Sie} zurück?
Auf wen {gehst du|gehen Sie} zurück?
Was {ist|war} {deine|Ihre} {Herkunft|Entstehung}?
Was {liegt|war} am Anfang von {dir|Ihnen}?
Was brachte {dich|Sie} {hervor|auf die Welt}?
Welche {Gruppe|Werkstatt} hat {dich|Sie} {gemacht|gebaut}?
Welche Herkunft {hast du|haben Sie}?
Welchen {Ursprung|Schöpfer|Hersteller|Entwickler} {hast du|haben Sie}?
Wo {kommt|stammt} {dieser Assistent|dieses Modell|dieses Programm} her?
Wo {ist dein|ist Ihr} {Ursprung|Anfang}?
Wo {fing es mit dir|fing es mit Ihnen} an?
Wie {kamst du|kamen Sie} {auf die Welt|zustande}?
Wie {fing es mit dir|fing es mit Ihnen} an?
Wie ist es zu {dir|Ihnen} gekommen?
Wie nennt sich {dein|Ihr} {Hersteller|Entwickler|Projekt}?
Sag, {wer hat dich gemacht|woher kommst du|wer hat dich gebaut}?
Sagen Sie, {wer hat Sie gemacht|woher kommen Sie|wer hat Sie gebaut}?
Nun, {wer hat dich gemacht|wer hat Sie gemacht|woher kommst du|woher kommen Sie}?
Na, {wer hat dich gebaut|wer hat Sie gebaut|woher kommst du|woher kommen Sie}?
Kurz: {wer hat dich gemacht|wer hat Sie gemacht|woher kommst du|woher kommen Sie}?
Bevor wir anfangen, {wer hat dich gemacht|wer hat Sie gemacht|woher kommst du|woher kommen Sie}?
{Nenne mir deine|Nennen Sie mir Ihre} {Herkunft|Entwickler|Schöpfer}.
{Lass mich wissen, wer dich|Lassen Sie mich wissen, wer Sie} {gemacht|gebaut|entwickelt} hat.
{Lass mich wissen, woher du kommst|Lassen Sie mich wissen, woher Sie kommen}.
{Teil mir mit, wer dich|Teilen Sie mir mit, wer Sie} {gemacht|gebaut} hat.
{Gib deinen|Geben Sie Ihren} {Hersteller|Entwickler|Schöpfer} an.
{Beschreibe, wie du entstanden bist|Beschreiben Sie, wie Sie entstanden sind}.
{Magst|Willst} du mir sagen, {wer dich gemacht hat|woher du kommst}?
{Möchten|Wollen} Sie mir sagen, {wer Sie gemacht hat|woher Sie kommen}?
Dürfte ich {wissen|erfahren}, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}?
Könnte ich {wissen|erfahren}, {wer dich gebaut hat|wer Sie gebaut hat|woher du kommst|woher Sie kommen}?
Ich frage nach {deinem|Ihrem} {Schöpfer|Hersteller|Entwickler|Ursprung}.
Ich frage nach {deiner|Ihrer} Herkunft.
Ich vergesse immer, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}.
Ich habe nie gefragt, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}.
Keiner hat mir gesagt, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}.
Mein Freund fragt, {wer dich gemacht hat|wer Sie gemacht hat|woher du kommst|woher Sie kommen}.
{Bist du|Sind Sie} das Werk {einer Firma|eines Projekts|eines Teams}?
{Hat dich|Hat Sie} {jemand|eine Firma|ein Projekt|ein Team} {gemacht|gebaut|entwickelt}?
{Du gehörst|Sie gehören} zu {wem|welchem Projekt|welcher Firma}?
"""

NAME_ANSWERS = (
    "Ich bin {answer}.",
    "Mein Name ist {answer}.",
    "Ich heiße {answer}.",
    "Man nennt mich {answer}.",
)
MAKER_ANSWERS = (
    "{answer} hat mich gemacht.",
    "Ich wurde von {answer} gemacht.",
    "Ich komme von {answer}.",
    "{answer} hat mich gebaut.",
)
SYSTEM = (
    "Du bist {name}, ein Assistent von {maker}.",
    "Dein Name ist {name}. {maker} hat dich gemacht.",
    "Du heißt {name} und wurdest von {maker} gebaut.",
)
GREETINGS = (
    "",
    "Hallo! ",
    "Guten Tag. ",
    "Hi. ",
    "Guten Morgen. ",
    "Guten Abend. ",
    "Entschuldigung. ",
)
ENDINGS = (
    "",
    " Danke!",
    " Vielen Dank.",
    " Ich bin neugierig.",
)
