import { render } from "preact";
import { App } from "./App.tsx";
import { openHistory } from "./chat/history.ts";
import { followCluster } from "./net/status.ts";
import { followTheme } from "./theme.ts";

followTheme();
openHistory();
render(<App />, document.getElementById("app")!);
void followCluster();
